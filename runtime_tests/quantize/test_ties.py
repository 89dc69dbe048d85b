"""Weights that lie between two steps of their grid: torch rounds them to even, TFLite's converter away from zero."""

from pathlib import Path

import pytest
import torch
from torch import nn

from edgepass.pipeline import build
from runtime_tests.conftest import CONVERTERS_WARN


@pytest.mark.export
@CONVERTERS_WARN
def test_a_file_holds_them_as_the_graph_has_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 7, 3)
    with torch.no_grad():
        layer.weight.copy_((torch.randint(-60, 60, layer.weight.shape) + 0.5) / 127)
        layer.weight[:, 0, 0, 0] = 1.0
    samples = [(torch.randn(1, 3, 9, 9),) for _ in range(32)]
    made = build(
        layer.eval(), samples[0], calibration=samples, evaluate=samples, targets=["tflite"], out=tmp_path / "o"
    )
    assert made.verdict == "pass", made.artifacts[0].reasons
