"""Dynamic int8: what a target's own tools leave in float is named with the reason, and is no failure of the file."""

from pathlib import Path

import pytest
import torch
from torch import nn

from edgepass.pipeline import build
from runtime_tests.conftest import CONVERTERS_WARN

pytestmark = [pytest.mark.export, CONVERTERS_WARN]


class Mixed(nn.Module):
    """[B, 8, 20] -> [B, 5]: a convolution, a transposed one and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.wide = nn.Conv1d(8, 12, 3), nn.ConvTranspose1d(12, 6, 3, stride=2)
        self.last = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.wide(torch.relu(self.conv(x)))).mean(-1))


@pytest.mark.parametrize(
    ("target", "float_ones"),
    [("executorch", {"conv.weight", "wide.weight"}), ("onnx", {"wide.weight"}), ("tflite", set())],
)
def test_what_stays_in_float_has_a_reason(target: str, float_ones: set[str], tmp_path: Path) -> None:
    torch.manual_seed(0)
    samples = [(torch.randn(1, 8, 20),) for _ in range(32)]
    made = build(
        Mixed().eval(), samples[0], evaluate=samples, targets=[target], recipe="dynamic_wi8_afp32", out=tmp_path / "o"
    )
    (record,) = made.artifacts
    assert record.verdict == "pass", record.reasons
    assert record.audit
    assert {w.name for w in record.audit.weights if w.reason} == float_ones
    assert {w.name for w in record.audit.weights if w.dtype == "int8"} >= {"last.weight"}


class Pictures(nn.Module):
    """[B, 3, 16, 16] -> [B, 5]: convolutions, and a layer of means over the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, groups=4)
        self.last = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.second(torch.relu(self.first(x)))).mean((2, 3)))


@pytest.mark.parametrize("target", ["executorch", "onnx", "tflite"])
def test_convolutions_that_a_target_makes_int8_are_expected_to_be(target: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    samples = [(torch.randn(1, 3, 16, 16),) for _ in range(64)]
    made = build(
        Pictures().eval(),
        samples[0],
        evaluate=samples,
        targets=[target],
        recipe="dynamic_wi8_afp32",
        out=tmp_path / "o",
    )
    (record,) = made.artifacts
    assert not [reason for reason in record.reasons if reason.startswith("conversion")], record.reasons
    assert record.loss
    assert record.loss.file_db is not None
    assert record.loss.expected_db is not None
    assert record.loss.file_db == pytest.approx(record.loss.expected_db, abs=3.0)
