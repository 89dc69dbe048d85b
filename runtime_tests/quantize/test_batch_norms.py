"""Batch norms are folded into the layers that are theirs alone, and looked for in training's form by nobody."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchao.quantization.pt2e import qat_utils

from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.judging import parity
from edgepass.quantize import recipe
from runtime_tests.conftest import CONVERTERS_WARN

pytestmark = [pytest.mark.export, CONVERTERS_WARN]
Forward = Callable[["Normed", Tensor], Tensor]


class Normed(nn.Module):
    """Layers and batch norms that `use` connects."""

    def __init__(self, use: Forward) -> None:
        super().__init__()
        self.use = use
        self.conv, self.linear = nn.Conv2d(3, 5, 3), nn.Linear(5, 5)
        self.first, self.second, self.flat = nn.BatchNorm2d(5), nn.BatchNorm2d(5, affine=False), nn.BatchNorm1d(5)
        for norm in (self.first, self.second, self.flat):
            nn.init.uniform_(norm.running_mean, -1, 1)
            nn.init.uniform_(norm.running_var, 0.5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.use(self, x)


def twice(model: Normed, x: Tensor) -> Tensor:
    return model.first(model.conv(x)) - model.first(model.conv(x.flip(-1)))


USES: dict[str, tuple[Forward, int]] = {
    "folded": (lambda m, x: m.second(m.conv(x)), 0),
    "before": (lambda m, x: m.conv(m.second(m.first(x.repeat(1, 2, 1, 1)[:, :5]))[:, :3]), 2),
    "read elsewhere": (lambda m, x: m.conv(x) * 0.5 + m.first(m.conv(x)), 0),
    "the same layer, read elsewhere": (lambda m, x: (y := m.conv(x)) * 0.5 + m.first(y), 0),
    "linear, read elsewhere": (lambda m, x: (y := m.linear(m.conv(x).mean((2, 3)))) + m.flat(y), 0),
    "one layer, two norms": (lambda m, x: m.first(m.conv(x)) - m.second(m.conv(x.flip(-1))), 0),
    "one layer and norm, twice": (twice, 0),
}


@pytest.mark.parametrize("name", ["static_wi8_ai8", "dynamic_wi8_afp32"])
@pytest.mark.parametrize("use", USES)
def test_the_graph_of_a_recipe_is_the_model_s(use: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    forward, left = USES[use]
    model, x = Normed(forward).eval(), torch.randn(32, 1, 3, 7, 11)
    program = capture(model, (x[0],))
    job = Job(program, recipe.read(name), lambda: [(row,) for row in x])
    monkeypatch.setattr(qat_utils, "_fold_conv_bn_qat_helper", None)  # looks for batch norms in training
    graph = job.quantised(fold=True)
    assert len(graph.graph.find_nodes(op="call_function", target=torch.ops.aten.batch_norm.default)) == left
    with torch.no_grad():
        wanted, given = (torch.stack([module(row) for row in x]).numpy() for module in (model, graph))
    assert parity.compare(wanted, given).sqnr_db > 28


def test_what_is_folded_is_no_product() -> None:
    """Nor is a convolution that is called twice with the one batch norm that is its own."""
    for forward in (USES["folded"][0], twice):
        model, x = Normed(forward).eval(), torch.randn(1, 3, 7, 11)
        targets = {str(node.target) for node in capture(model, (x,)).exported.graph.nodes}
        assert "aten.batch_norm.default" in targets
        assert "aten.mul.Tensor" not in targets
