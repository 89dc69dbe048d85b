"""What is joined stays as exact as it was: one range for all of it only where all of it is int8 anyway."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgepass import exporters
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.judging import parity
from edgepass.quantize import recipe
from edgepass.runtimes import _child
from edgepass.samples import collect
from runtime_tests.conftest import CONVERTERS_WARN

pytestmark = [pytest.mark.export, CONVERTERS_WARN]
CAT = torch.ops.aten.cat.default


class Joining(nn.Module):
    """x [1, 4, 9] joined along its channels, as `use` says."""

    def __init__(self, use: Callable[["Joining", Tensor], Tensor]) -> None:
        super().__init__()
        self.use = use
        self.one, self.other, self.after = nn.Conv1d(4, 4, 3), nn.Conv1d(4, 4, 3), nn.Conv1d(8, 4, 1)
        self.token = nn.Parameter(torch.full((1, 4, 9), 40.0))
        self.table = nn.Embedding(5, 4)
        self.register_buffer("places", torch.tensor([3, 1]))
        nn.init.normal_(self.other.weight, std=0.01)
        nn.init.zeros_(self.other.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.use(self, x)


USES: dict[str, Callable[[Joining, Tensor], Tensor]] = {
    "layers, for one": lambda m, x: m.after(torch.cat([m.one(x), m.other(x)], 1)),
    "layers, for a product": lambda m, x: torch.cat([m.one(x), m.other(x)], 1) * 2,
    "a layer and its input": lambda m, x: m.after(torch.cat([m.one(x), x[..., 1:-1]], 1)),
    "a token": lambda m, x: m.after(nn.functional.layer_norm(torch.cat([m.token, x], 1), (9,))),
}


@pytest.mark.parametrize("use", USES)
def test_only_int8_for_int8_has_one_range(use: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(32, 1, 4, 9)
    job = Job(capture(Joining(USES[use]).eval(), (x[0],)), recipe.read("static_wi8_ai8"), lambda: [(r,) for r in x])
    (joint,) = job.quantised(fold=True).graph.find_nodes(op="call_function", target=CAT)
    read = [source.args[1] for source in joint.all_input_nodes if "dequantize" in str(source.target)]
    if use == "layers, for one":
        (reader,) = joint.users
        assert len(read) == 2
        assert {*read, reader.args[1]} == {read[0]}
    else:
        assert len(set(read)) == len(read), "each in a range of its own"


def test_joined_integers_are_places() -> None:
    model = Joining(lambda m, x: m.one(x + m.table(torch.cat([m.places, m.places[:1]])).sum(0)[:, None])).eval()
    x = torch.randn(8, 1, 4, 9)
    graph = Job(capture(model, (x[0],)), recipe.read("static_wi8_ai8"), lambda: [(r,) for r in x]).quantised(fold=True)
    assert parity.compare(model(x[0]).detach().numpy(), graph(x[0]).detach().numpy()).sqnr_db > 28


@pytest.mark.parametrize("target", ["tflite", "executorch"])
def test_a_file_joins_as_its_graph_does(target: str, tmp_path: Path) -> None:
    """A layer of small numbers beside one of large ones: in the range of these it would have 9 dB."""
    torch.manual_seed(0)
    model = Joining(
        lambda m, x: torch.cat([m.one(x), m.other(x)], 1) * torch.tensor([1.0, 100.0]).repeat_interleave(4)[:, None]
    )
    samples = collect([(row,) for row in torch.randn(32, 1, 4, 9)], (torch.randn(1, 4, 9),), "")
    job = Job(capture(model.eval(), (torch.randn(1, 4, 9),)), recipe.read("static_wi8_ai8"), samples.arguments)
    module = exporters.target(target)
    exporters.export(target, job, path := tmp_path / f"a{module.suffix}")
    found = _child.run(module.runtime, path, samples.inputs, warmup=0, latency_runs=1)
    with torch.no_grad():
        wanted = torch.stack([model(*args) for args in samples.arguments()]).numpy()
    assert parity.compare(wanted[:, :, 4:], found.outputs[0][:, :, 4:]).sqnr_db > 30
