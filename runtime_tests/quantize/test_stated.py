"""A weight has a form for what a converter may multiply into it, of what follows and of what comes before."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.quantize import recipe
from edgepass.quantize.weights import stated


class Before(nn.Module):
    """Two layers that read the same, so that what multiplies it goes into both."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.change, self.left, self.right = change, nn.Linear(7, 3), nn.Linear(7, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.change(torch.softmax(x, -1))
        return self.left(h) * 3, self.right(h)


def forms(change: Callable[[Tensor], Tensor]) -> tuple[Before, dict[str, tuple[np.ndarray, ...]]]:
    model = Before(change).eval()
    job = Job(capture(model, (torch.randn(1, 4, 7),)), recipe.read("fp32"))
    return model, {weight.name: weight.forms for weight in stated(job.graph())}


@pytest.mark.parametrize(
    ("change", "factor"),
    [
        (lambda x: x * 16, 16.0),
        (lambda x: 16 * x, 16.0),
        (lambda x: x / 4, 0.25),
        (lambda x: 16 / x, 16.0),  # which torch captures as a product
        (lambda x: -x, -1.0),
        (lambda x: (x * 16).reshape(1, 2, 2, 7), 16.0),
        (lambda x: (x * 2) / 4, 0.5),
    ],
)
def test_a_number_before_a_layer_may_be_in_its_weight(change: Callable[[Tensor], Tensor], factor: float) -> None:
    model, found = forms(change)
    for name, times in (("left.weight", (1, 3, factor, 3 * factor)), ("right.weight", (1, factor))):
        weight = model.get_parameter(name).detach().numpy()
        for each in times:
            assert any(np.allclose(form, weight * each) for form in found[name]), (name, each)


@pytest.mark.parametrize(
    "change",
    [lambda x: x + 16, lambda x: torch.relu(x * 16), lambda x: x * x, lambda x: x * torch.arange(7)],
)
def test_what_is_no_number_is_in_no_weight(change: Callable[[Tensor], Tensor]) -> None:
    model, found = forms(change)
    (only,) = found["right.weight"]
    np.testing.assert_array_equal(only, model.right.weight.detach().numpy())


def test_a_number_before_a_sum_with_a_number_may_be_in_the_weight() -> None:
    """As in StarReLU, s relu(x)² + b (arXiv:2210.13452)."""
    scale, shift = nn.Parameter(torch.tensor([0.75])), nn.Parameter(torch.tensor([0.25]))
    model, found = forms(lambda x: scale * torch.relu(x) ** 2 + shift)
    expected = (model.right.weight * 0.75).detach().numpy()
    assert any(np.allclose(form, expected) for form in found["right.weight"])


@pytest.mark.parametrize("norm", [nn.LayerNorm(7), nn.RMSNorm(7)])
def test_the_gain_of_a_norm_before_a_layer_may_be_in_its_weight(norm: nn.Module) -> None:
    nn.init.uniform_(norm.get_parameter("weight"), 0.5, 2.0)
    model, found = forms(norm)
    expected = (model.right.weight * norm.get_parameter("weight")).detach().numpy()
    assert any(np.allclose(form, expected) for form in found["right.weight"])


@pytest.mark.parametrize("affine", [True, False])
def test_the_gain_of_a_batch_norm_before_a_layer_may_be_in_its_weight(affine: bool) -> None:
    norm = nn.BatchNorm1d(7, affine=affine).eval()
    nn.init.uniform_(norm.get_buffer("running_var"), 0.5, 2.0)
    if affine:
        nn.init.uniform_(norm.get_parameter("weight"), 0.5, 2.0)
    model, found = forms(lambda x: norm(x.reshape(-1, 7)).reshape(x.shape))
    gain = (norm.weight if affine else 1) / torch.sqrt(norm.get_buffer("running_var") + norm.eps)
    expected = (model.right.weight * gain).detach().numpy()
    assert any(np.allclose(form, expected) for form in found["right.weight"])


def test_each_number_before_a_layer_is_counted_once() -> None:
    class Thrice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x * 2 * 3 * 4)

    model = Thrice()
    (found,) = stated(torch.export.export(model, (torch.randn(1, 3),)).module())  # type: ignore[arg-type]
    ratios = [float(form[0, 0] / model.layer.weight[0, 0].item()) for form in found.forms]
    assert sorted(ratios) == pytest.approx([1, 4, 12, 24])


@pytest.mark.parametrize("error", [TypeError, ValueError, AttributeError, NotImplementedError])
def test_a_constant_that_cannot_be_computed_alone_states_nothing(error: type[Exception]) -> None:
    def fails(weight: Tensor) -> Tensor:
        raise error("it takes no such tensor")

    job = Job(capture(nn.Linear(7, 3).eval(), (torch.randn(1, 7),)), recipe.read("fp32"))
    graph = job.graph()
    (weight,) = (w.name for w in stated(graph))
    (layer,) = (n for n in graph.graph.nodes if n.target is torch.ops.aten.linear.default)
    with graph.graph.inserting_before(layer):
        layer.replace_input_with(layer.args[1], graph.graph.call_function(fails, (layer.args[1],)))
    assert weight
    assert stated(graph) == []
