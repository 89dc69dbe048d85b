"""What a target has an operation of its own for is in its file as that, not as what it is made of."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepass import exporters
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.judging import parity
from edgepass.quantize import recipe
from edgepass.runtimes import _child
from runtime_tests.conftest import CONVERTERS_WARN

pytestmark = [pytest.mark.export, CONVERTERS_WARN]


class Scaled(nn.Module):
    """Pictures [1, 8, 4, 4] made larger, between convolutions and joined, as decoders of pictures do."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.one, self.other, self.behind = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1, stride=2), nn.Conv2d(16, 8, 1)

    def larger(self, x: Tensor) -> Tensor:
        return functional.interpolate(x, size=(8, 8), mode=self.mode)

    def forward(self, x: Tensor) -> Tensor:
        return self.behind(torch.cat([self.larger(self.one(x)), self.larger(self.other(x))], 1))


@pytest.mark.parametrize("name", ["fp32", "static_wi8_ai8"])
@pytest.mark.parametrize(
    ("target", "mode", "operation"),
    [
        ("tflite", "bilinear", "RESIZE_BILINEAR"),
        ("tflite", "nearest", "RESIZE_NEAREST_NEIGHBOR"),
        ("executorch", "bilinear", "xnnpack.StaticResizeBilinear2D"),
        ("onnx", "bilinear", "Resize"),
        ("onnx", "nearest", "Resize"),
    ],
)
def test_a_picture_is_made_larger_by_the_target(
    target: str, mode: str, operation: str, name: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model, x, module = Scaled(mode).eval(), torch.randn(8, 1, 8, 4, 4), exporters.target(target)
    job = Job(capture(model, (x[0],)), recipe.read(name), lambda: [(row,) for row in x])
    exporters.export(target, job, path := tmp_path / f"a{module.suffix}")
    found = _child.run(module.runtime, path, [x.numpy()], warmup=0, latency_runs=1, contents=True)
    assert found.contents
    assert operation in found.contents.ops


class Parted(nn.Module):
    """A part of what a convolution gives goes on in an operation that XNNPACK has not."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 12, 1), nn.Conv2d(4, 4, 3, padding=1)
        self.pool, self.behind = nn.AvgPool2d(3, 1, 1), nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        first, second, third = self.one(x).relu().chunk(3, 1)
        return self.behind(torch.cat([self.other(first), second, self.pool(third)], 1))


def test_a_part_of_an_int8_picture_may_leave_the_delegate(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 1, 3, 7, 11)
    model = Parted().eval()
    job = Job(capture(model, (x[0],)), recipe.read("static_wi8_ai8"), lambda: [(row,) for row in x])
    exporters.export("executorch", job, path := tmp_path / "a.pte")
    found = _child.run("executorch", path, [x.numpy()], warmup=0, latency_runs=1)
    with torch.no_grad():
        wanted, graph = (torch.stack([module(row) for row in x]).numpy() for module in (model, job.realised()))
    assert parity.compare(wanted, found.outputs[0]).sqnr_db > 28
    assert parity.compare(graph, found.outputs[0]).sqnr_db > 35
