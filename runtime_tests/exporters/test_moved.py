"""Windows of a picture are moved in six dimensions, which a static .mlpackage takes as long as nothing is between."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgepass import exporters
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.exporters._moved import moved
from edgepass.judging import parity
from edgepass.quantize import recipe
from edgepass.runtimes import _child
from edgepass.samples import collect
from runtime_tests.conftest import CONVERTERS_WARN

pytestmark = [pytest.mark.export, CONVERTERS_WARN]


class Windows(nn.Module):
    """x [1, 8, 8, 12] in windows of 4 by 4, a layer before and one behind."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.behind = nn.Linear(12, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        windows = self.before(x).view(1, 2, 4, 2, 4, 12).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, 12)
        return self.behind(windows[:, 1:])


def job(x: Tensor) -> Job:
    torch.manual_seed(0)
    program = capture(Windows().eval(), (x[0],))
    return Job(program, recipe.read("static_wi8_ai8"), lambda: [(row,) for row in x])


def test_what_is_moved_is_not_rounded_again_and_gives_the_same() -> None:
    x = torch.randn(4, 1, 8, 8, 12)
    made = job(x)
    before, after = made.quantised(fold=True), moved(made.quantised(fold=True))
    count = [sum("quantized_decomposed.quantize" in str(n.target) for n in g.graph.nodes) for g in (before, after)]
    assert count[0] > count[1] == 3, "the input, and what each layer gives"
    for row in x:
        assert torch.equal(before(row), after(row))


def test_windows_are_in_a_static_mlpackage(tmp_path: Path) -> None:
    samples = collect([(row,) for row in torch.randn(16, 1, 8, 8, 12)], (torch.randn(1, 8, 8, 12),), "")
    made = job(torch.from_numpy(samples.inputs[0]))
    exporters.export("coreml", made, path := tmp_path / "a.mlpackage")
    found = _child.run("coreml", path, samples.inputs, warmup=0, latency_runs=1)
    with torch.no_grad():
        wanted = torch.stack([made.realised()(*args) for args in samples.arguments()]).numpy()
    assert parity.compare(wanted, found.outputs[0]).sqnr_db > 45
