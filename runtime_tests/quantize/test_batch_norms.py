"""Batch norms are folded into the layers that are theirs alone, and looked for in training's form by nobody."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchao.quantization.pt2e import qat_utils

from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.judging import parity
from edgepass.quantize import norms, recipe
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
    "of other channels": (lambda m, x: m.flat(m.linear(m.conv(x).mean(3))), 0),
}


@pytest.mark.parametrize("name", ["static_wi8_ai8", "dynamic_wi8_afp32", "fp16"])
@pytest.mark.parametrize("use", USES)
def test_the_graph_of_a_recipe_is_the_model_s(use: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    forward, left = USES[use]
    model, x = Normed(forward).eval(), torch.randn(32, 1, 3, 7, 11)
    program = capture(model, (x[0],))
    job = Job(program, recipe.read(name), lambda: [(row,) for row in x])
    monkeypatch.setattr(qat_utils, "_fold_conv_bn_qat_helper", None)  # looks for batch norms in training
    graph = job.realised()
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


LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "linear": (nn.Linear(6, 4, bias=False), (2, 6)),
    "line": (nn.Conv1d(6, 4, 3, groups=2), (1, 6, 7)),
    "picture": (nn.Conv2d(6, 4, 3, bias=False, padding="same"), (1, 6, 5, 7)),
    "volume": (nn.Conv3d(6, 4, (1, 2, 3)), (1, 6, 2, 5, 4)),
    "transposed line": (nn.ConvTranspose1d(6, 4, 3, stride=2), (1, 6, 5)),
    "transposed picture": (nn.ConvTranspose2d(6, 4, 3, stride=2, groups=2, bias=False), (1, 6, 5, 4)),
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("affine", [False, True])
def test_before_float16_a_norm_becomes_part_of_its_layer(layer: str, affine: bool) -> None:
    """W' and b' are exact: what is lost is float32's own error."""
    made, shape = LAYERS[layer]
    norm = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[len(shape)](4, affine=affine)
    for values in (norm.running_var, *norm.parameters()):
        nn.init.uniform_(values, 0.5, 3)
    nn.init.uniform_(norm.running_mean, -0.2, 0.2)  # so that the ReLU leaves about a half
    model, x = nn.Sequential(made, norm, nn.ReLU()).eval(), torch.randn(shape)
    program = capture(model, (x,))
    graph = norms.fold(Job(program, recipe.read("fp16")).graph(), recipe.read("fp16"))
    assert not graph.graph.find_nodes(op="call_function", target=norms.BATCH_NORM)
    with torch.no_grad():
        assert parity.compare(model(x).numpy(), graph(x).numpy()).sqnr_db > 120


def test_a_norm_that_is_kept_in_float32_stays() -> None:
    model, x = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)).eval(), torch.randn(1, 3, 7, 11)
    graph = Job(capture(model, (x,)), recipe.read("fp16").keeping(("1",))).realised()
    (norm,) = graph.graph.find_nodes(op="call_function", target=norms.BATCH_NORM)
    assert norm.args[3].meta["val"].dtype == torch.float32


def test_a_bias_of_two_layers_stays_the_other_s() -> None:
    model, x = nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5), nn.Linear(5, 5)), torch.randn(2, 5)
    model[2].bias = model[0].bias
    nn.init.uniform_(model[1].running_mean, -1, 1)
    graph = norms.fold(Job(capture(model.eval(), (x,)), recipe.read("fp16")).graph(), recipe.read("fp16"))
    with torch.no_grad():
        assert parity.compare(model(x).numpy(), graph(x).numpy()).sqnr_db > 120
