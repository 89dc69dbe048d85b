"""What executorch's XNNPACK serialiser does wrongly by itself is right in our .pte files."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import edgepass
from edgepass import exporters
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.judging import parity
from edgepass.quantize import recipe
from edgepass.runtimes import _child
from runtime_tests.conftest import CONVERTERS_WARN

pytestmark = [pytest.mark.export, CONVERTERS_WARN]

READERS: dict[str, Callable[[Tensor], Tensor]] = {
    "as it is": lambda y: y.softmax(-1),
    "a part": lambda y: y[:, :1].softmax(-1),
    "moved": lambda y: y.permute(0, 2, 3, 1).softmax(-1),
}


class Softmax(nn.Module):
    """Of what a convolution gives."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.layer, self.way = nn.Conv2d(3, 6, 1), way

    def forward(self, x: Tensor) -> Tensor:
        return READERS[self.way](self.layer(x))


@pytest.mark.parametrize("way", READERS)
def test_softmax_behind_a_convolution_is_over_the_last_dimension(way: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Softmax(way).eval(), torch.randn(1, 3, 7, 11)
    exporters.export("executorch", Job(capture(model, (x,)), recipe.read("fp32")), path := tmp_path / "a.pte")
    found = _child.run("executorch", path, [x.numpy()[None]], warmup=0, latency_runs=1)
    with torch.no_grad():
        assert parity.compare(model(x).numpy()[None], found.outputs[0]).sqnr_db > 110


class Convolutions(nn.Module):
    """Of every kind that XNNPACK has."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Conv1d(6, 12, 3)
        self.layers = nn.Sequential(
            nn.Conv2d(12, 16, 3, bias=False), nn.Conv2d(16, 16, 3, groups=16), nn.Conv2d(16, 24, 3, groups=4),
            nn.ConvTranspose2d(24, 8, 3, stride=2),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(self.line(x).reshape(1, 12, 9, 9))
        return y


def test_float16_weights_of_convolutions_are_float16_in_the_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = [(torch.randn(1, 6, 83),) for _ in range(4)]
    done = edgepass.build(
        Convolutions().eval(), data[0], out=tmp_path / "o", targets=("executorch",), recipe=("fp32", "fp16"),
        evaluate=data,
    )  # fmt: skip
    whole, half = done.artifacts
    assert half.verdict == "pass", half.reasons
    assert half.audit
    held = {
        weight.name: (weight.dtype, weight.reason) for weight in half.audit.weights if weight.name.endswith("weight")
    }
    spared = held.pop("layers.3.weight")
    assert spared[0] == "float32"
    assert "transposed convolutions" in spared[1]
    assert set(held.values()) == {("float16", None)}
    assert whole.bytes
    assert half.bytes
    assert half.bytes < 0.8 * whole.bytes


class Ghost(nn.Module):
    """What a layer gives and what another makes of it, joined for a third (arXiv:1911.11907)."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.third = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.one(x).relu()
        y: Tensor = self.third(torch.cat([first, self.other(first).relu()], 1)[:, :16])
        return y


class Gated(nn.Module):
    """A part of what a linear layer gives, moved for a convolution (arXiv:2405.07992)."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(11, 12), nn.Conv2d(8, 8, 3, padding=1, groups=8)

    def forward(self, x: Tensor) -> Tensor:
        gate, part = self.one(x).split([4, 8], -1)
        y: Tensor = self.other(part.permute(0, 3, 1, 2)) * gate.sum(-1)[:, None]
        return y


@pytest.mark.parametrize("kind", [Ghost, Gated])
def test_moves_of_int8_numbers_to_another_range_run(kind: Callable[[], nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 1, 3, 7, 11)
    job = Job(capture(kind().eval(), (x[0],)), recipe.read("static_wi8_ai8"), lambda: [(row,) for row in x])
    exporters.export("executorch", job, path := tmp_path / "a.pte")
    found = _child.run("executorch", path, [x.numpy()], warmup=0, latency_runs=1)
    with torch.no_grad():
        wanted = torch.stack([job.realised()(row) for row in x]).numpy()
    assert parity.compare(wanted, found.outputs[0]).sqnr_db > 35
