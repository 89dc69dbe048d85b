"""A converter that carries a step's size from one operation to another changes nothing that operations compute."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgepass.pipeline import build
from runtime_tests.conftest import CONVERTERS_WARN

pytestmark = [pytest.mark.export, CONVERTERS_WARN]


class Residual(nn.Module):
    """[B, 3, 16, 16] -> [B, 5]: blocks whose sums go through a ReLU, which makes them int8, as in a ResNet."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))
        self.shortcuts = nn.ModuleList(nn.Conv2d(8, 8, 1) for _ in range(3))
        self.last = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        for block, shortcut in zip(self.blocks, self.shortcuts, strict=True):
            x = torch.relu(block(x) + shortcut(x))
        return self.last(x.amax((2, 3)))


@pytest.mark.parametrize("target", ["coreml", "onnx", "tflite"])
def test_every_sum_of_a_residual_network_is_compared_and_right(target: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    samples = [(torch.randn(1, 3, 16, 16),) for _ in range(64)]
    made = build(
        Residual().eval(), samples[0], calibration=samples[:16], evaluate=samples, targets=[target], out=tmp_path / "o"
    )
    (record,) = made.artifacts
    assert record.verdict == "pass", record.reasons
    assert record.conversion
    operations = record.conversion.operations
    assert operations
    assert operations.compared >= 11, "the input, a convolution, three blocks of three, the layer"
    assert not operations.differing
