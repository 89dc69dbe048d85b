"""Canonical forms at their edges: types, single numbers and vectors, a batch that varies, and forms that are wrong."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import _pytree as pytree

from edgepass import subject
from edgepass.exporters import _canonical
from edgepass.exporters._canonical import filled
from edgepass.exporters._capture import capture
from edgepass.quantize.audit import requested
from edgepass.quantize.recipe import read
from edgepass.samples import Samples
from edgepass.task import Task

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch.export, of torch's own pytree


class Calls(nn.Module):
    """A function of the inputs and two weights."""

    def __init__(self, function: Callable[..., Tensor], shape: tuple[int, ...] = (8, 4)) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight, self.bias = nn.Parameter(torch.randn(shape)), nn.Parameter(torch.randn(shape[-1]))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.weight, self.bias)


def same(model: nn.Module, args: tuple[Tensor, ...], max_batch: int | None = None) -> None:
    """The captured program gives what the model gives, in type, shape and value."""
    program = capture(model.eval(), args, max_batch=max_batch)
    assert not program.notes, "no form failed"
    with torch.no_grad():
        (given,) = pytree.tree_leaves(program.exported.module()(*args))
        torch.testing.assert_close(given, model(*args))


@pytest.mark.parametrize("max_batch", [None, 4])
@pytest.mark.parametrize("value", [0.5, -torch.inf, 1.0])
@pytest.mark.parametrize("made", [torch.arange(6).reshape(2, 3), torch.arange(6).reshape(2, 3) > 2])
def test_what_is_filled_holds_its_value_whatever_it_is_like(made: Tensor, value: float, max_batch: int | None) -> None:
    def like(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return torch.full_like(x, value, dtype=torch.float32) + torch.ones_like(x, dtype=torch.float32)

    same(Calls(like), (made,), max_batch)


@pytest.mark.parametrize(
    ("call", "x"),
    [
        (lambda x, w, b: torch.addmm(b, x, w, beta=0.5, alpha=2), torch.randn(3, 8)),
        (lambda x, w, b: torch.addmv(b, w.T, x, beta=0.5, alpha=2), torch.randn(8)),
        (lambda x, w, b: torch.addmv(b, w.T, x), torch.randn(8)),
        (lambda x, w, b: torch.matmul(x, w[None]), torch.randn(8)),
        (lambda x, w, b: torch.matmul(x, w[None, None]), torch.randn(8)),
        (lambda x, w, b: torch.matmul(x, w[None]), torch.randn(3, 8)),
    ],
)
def test_a_product_with_a_weight_is_a_linear_layer_whatever_is_added(call: Callable[..., Tensor], x: Tensor) -> None:
    model = Calls(call)
    same(model, (x,))
    program = capture(model, (x,))
    assert "aten.linear.default" in {str(node.target) for node in program.exported.graph.nodes}
    assert [w.reason for w in requested(program.exported, read("static_wi8_ai8"))] == [""]


@pytest.mark.parametrize("shape", [(), (3,), (3, 5), (2, 5, 7), (1, 5, 2, 2, 3)])
@pytest.mark.parametrize("max_batch", [None, 4])
def test_prelu_is_rectifiers_but_in_pictures(shape: tuple[int, ...], max_batch: int | None) -> None:
    x = torch.randn(shape)
    for slopes in {1, x.shape[1] if x.dim() > 1 else 1}:
        if max_batch is None or x.dim():
            same(Calls(lambda x, w, b: torch.prelu(x, b), (1, slopes)), (x,), max_batch)
    kept = capture(Calls(lambda x, w, b: torch.prelu(x, b), (1, 5)), (torch.randn(2, 5, 3, 3),))
    assert "aten.prelu.default" in {str(node.target) for node in kept.exported.graph.nodes}


@pytest.mark.parametrize("lead", [(), (1,), (3, 2)])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("sizes", [(1, 1), (7, 5)])
def test_a_bilinear_layer_is_linear_in_each(lead: tuple[int, ...], biased: bool, sizes: tuple[int, int]) -> None:
    left, right = sizes
    layer = nn.Bilinear(left, right, 3, bias=biased)
    same(layer, (torch.randn(*lead, left), torch.randn(*lead, right)))
    program = capture(layer.eval(), (torch.randn(*lead, left), torch.randn(*lead, right)))
    assert [w.reason for w in requested(program.exported, read("static_wi8_ai8"))] == [""]


def test_a_sum_of_truth_values_is_one() -> None:
    same(Calls(lambda x, w, b: torch.add(x, ~x, alpha=2)), (torch.tensor([True, False]),))


class Ring(nn.Module):
    """Makes something of a copy of its buffer."""

    def __init__(self, change: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.register_buffer("kept", torch.zeros(4, 3))
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self.get_buffer("kept"), x)


@pytest.mark.parametrize(
    "change",
    [
        lambda kept, x: kept.clone().add_(x),
        lambda kept, x: kept.to(torch.int64).add_(1).float() + x,
        lambda kept, x: (kept[1:] * 2).add_(x),
        lambda kept, x: functional.pad(kept, (0, 0)).add_(x),
    ],
)
def test_a_copy_of_a_buffer_may_be_changed(change: Callable[[Tensor, Tensor], Tensor]) -> None:
    same(Ring(change), (torch.randn(1, 3),))


@pytest.mark.parametrize("max_batch", [None, 4])
@pytest.mark.parametrize("name", ["reshape_as", "view_as", "expand_as"])
def test_a_shape_is_a_number(name: str, max_batch: int | None) -> None:
    """And what it was taken from is read by what computes with it, alone."""

    def use(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        y = x @ w.T
        rows = y.tanh() if name == "expand_as" else y.tanh().flatten(0, 1)
        return getattr(rows, name)(y)

    model, args = Calls(use), (torch.randn(2, 3, 4),)
    same(model, args, max_batch)
    (layer,) = capture(model, args).exported.graph.find_nodes(op="call_function", target=torch.ops.aten.linear.default)
    assert len(layer.users) == 1


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("width", [0, 1])
def test_a_pad_by_nothing_is_none(width: int, changed: bool) -> None:
    def pad(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        doubled = x * 2
        padded = functional.pad(doubled, (0, width, 0, 0))
        return padded * doubled.add_(1).sum() if changed else padded * w.sum()

    model, args = Calls(pad), (torch.randn(1, 3),)
    same(model, args)
    pads = capture(model, args).exported.graph.find_nodes(op="call_function", target=torch.ops.aten.pad.default)
    assert len(pads) == (width > 0 or changed)


def _zeros(node: Any, constants: Any) -> Callable[..., Tensor] | None:
    return (lambda x: x * 0) if node.target == torch.ops.aten.tanh.default else None


def _no_number(node: Any, constants: Any) -> Callable[..., Tensor] | None:
    return (lambda x: x / 0 * 0) if node.target == torch.ops.aten.tanh.default else None


def _raises(node: Any, constants: Any) -> Callable[..., Tensor] | None:
    return (lambda x: x.reshape(-1, 77)) if node.target == torch.ops.aten.tanh.default else None


@pytest.mark.parametrize(
    ("form", "told"),
    [
        (_zeros, "change this model: output 0 is"),
        (_no_number, "change this model: the captured program gives NaN or infinity in output 0"),
        (_raises, "cannot be put into this model ("),
    ],
)
def test_a_form_that_is_wrong_is_left_out_and_told(form: Any, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filled, "formula", form)
    assert "filled" in _canonical.FORMS
    model = Calls(lambda x, w, b: torch.tanh(x @ w + b) + 3)
    samples = Samples(inputs=[torch.randn(9, 2, 8).numpy()])
    given = Task(name="m", source="t", model=model.eval(), args=samples.arguments()[0], evaluation=samples)
    held, program, reference = subject.settle(given, capture(model, given.args), samples)
    (note,) = program.notes
    assert told in note
    assert "files are made without them; that is a fault to be reported" in note
    assert held is given
    assert not program.changed
    (wanted,) = given.reference(samples)
    np.testing.assert_array_equal(reference[0], wanted)
    np.testing.assert_allclose(replace(given, model=program.exported).reference(samples)[0], wanted, rtol=1e-5)
