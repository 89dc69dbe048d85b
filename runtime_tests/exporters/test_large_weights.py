"""Weights of 256 KiB and more, which ai-edge-quantizer puts behind the flatbuffer of a .tflite."""

from pathlib import Path

import pytest
import torch
from torch import nn

from edgepass.pipeline import build
from runtime_tests.conftest import CONVERTERS_WARN

pytestmark = [pytest.mark.export, CONVERTERS_WARN]


def test_a_tflite_holds_them_under_every_recipe(tmp_path: Path) -> None:
    torch.manual_seed(0)
    samples = [(torch.randn(1, 640),) for _ in range(32)]
    model = nn.Sequential(nn.Linear(640, 521), nn.ReLU(), nn.Linear(521, 3)).eval()
    recipes = ["fp16", "dynamic_wi8_afp32", "weight_only_wi8_afp32"]
    made = build(model, samples[0], evaluate=samples, targets=["tflite"], recipe=recipes, out=tmp_path / "o")
    for record in made.artifacts:
        assert record.verdict == "pass", (record.recipe, record.reasons)
        assert record.bytes > 640 * 521
