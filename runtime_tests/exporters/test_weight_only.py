"""Weight-only int8: the arithmetic is float32's, so a file gives what its recipe's own graph gives."""

from pathlib import Path

import pytest
import torch
from torch import nn

from edgepass.pipeline import build
from runtime_tests.conftest import CONVERTERS_WARN

pytestmark = [pytest.mark.export, CONVERTERS_WARN]


class Layers(nn.Module):
    """[B, 7, 13] -> [B, 7, 5]: layers with and without a bias, of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(13, 63), nn.Linear(63, 5, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(x)))


@pytest.mark.parametrize("target", ["coreml", "onnx", "tflite"])
def test_activations_are_rounded_nowhere(target: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    samples = [(torch.randn(1, 7, 13),) for _ in range(64)]
    made = build(
        Layers().eval(),
        samples[0],
        evaluate=samples,
        targets=[target],
        recipe="weight_only_wi8_afp32",
        out=tmp_path / "o",
    )
    (record,) = made.artifacts
    assert record.verdict == "pass", record.reasons
    assert record.conversion
    assert max(e.ratio for e in record.conversion.excess) < 1.1
    assert record.audit
    assert record.audit.coverage == 1.0


def test_a_weight_too_small_for_a_format_s_own_tools_is_named_and_no_fault(tmp_path: Path) -> None:
    torch.manual_seed(0)
    samples = [(torch.randn(1, 7, 13),) for _ in range(64)]
    model = nn.Sequential(nn.Linear(13, 3), nn.Linear(3, 3), nn.Linear(3, 5)).eval()
    made = build(
        model, samples[0], evaluate=samples, targets=["coreml"], recipe="weight_only_wi8_afp32", out=tmp_path / "o"
    )
    (record,) = made.artifacts
    assert record.verdict == "pass", record.reasons
    assert record.audit
    assert {w.name: w.dtype for w in record.audit.weights if w.reason} == {"1.weight": "float32"}
    assert any("fewer than 10 elements" in note for note in record.notes)
