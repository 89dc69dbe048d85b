"""Canonical forms: what is said in many ways is captured in one, computes the same, and reaches every target so."""

from collections.abc import Callable
from itertools import islice, product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import _pytree as pytree

from edgepass import catalog, exporters
from edgepass.errors import CaptureError
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.judging import parity
from edgepass.quantize import recipe
from edgepass.quantize.audit import audit, requested
from edgepass.runtimes import _child
from edgepass.samples import Samples
from runtime_tests.conftest import CONVERTERS_WARN
from runtime_tests.exporters import canonical_models
from runtime_tests.exporters.canonical_models import MODELS, Named, Products, Spectra
from runtime_tests.exporters.small import sampled

TARGETS = [name for name in catalog.names("targets") if ":" not in name]
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch.export, of torch's own pytree
LEFT = ("padding", "addcmul", "einsum", "matmul", "addmm", "_weight_norm", "chunk")


@pytest.mark.parametrize("kind", MODELS)
def test_a_canonical_program_gives_what_the_model_gives(kind: type[nn.Module]) -> None:
    model = kind().eval()
    program = capture(model, canonical_models.inputs(model))
    names = [str(n.target) for n in program.exported.graph.nodes if n.op == "call_function"]
    assert not [name for name in names for word in LEFT if word in name.split(".")]
    assert not [n for n in program.exported.graph.nodes if n.kwargs.get("alpha", 1) != 1]
    for _ in range(3):
        args = canonical_models.inputs(model)
        with torch.no_grad():
            wanted = [leaf for leaf in pytree.tree_leaves(model(*args)) if isinstance(leaf, Tensor)]
            given = program.exported.module()(*args)
        for y, x in zip(wanted, given, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


class Convolution(nn.Module):
    """One convolution."""

    def __init__(self, dims: int, kernel: int, dilation: int, padding: str) -> None:
        super().__init__()
        kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
        self.layer = kind(2, 3, kernel, padding=padding, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


@given(dims=st.integers(1, 3), kernel=st.integers(1, 4), dilation=st.integers(1, 2), same=st.booleans())
def test_padding_in_words_is_padding_in_numbers(dims: int, kernel: int, dilation: int, same: bool) -> None:
    model, x = Convolution(dims, kernel, dilation, "same" if same else "valid"), torch.randn(1, 2, *[9] * dims)
    program = capture(model, (x,)).exported
    assert {str(n.target) for n in program.graph.nodes if "conv" in str(n.target)} == {f"aten.conv{dims}d.default"}
    torch.testing.assert_close(program.module()(x), model(x))


LETTERS = ["bnc,cd->bnd", "bnc,dc->dbn", "bnc,nd->bcd", "bnc,ncd->bd", "bnc,cde->ebnd", "nc,bnc->b", "...c,cd->...d"]
APART = ["bnc,ncd->bnd", "bnc,nc->bnc", "bnc,cd->bn"]
"""A matrix for each n, no sum, and a sum over d alone: not one product with a matrix."""


class Einsum(nn.Module):
    """One einsum with a weight."""

    def __init__(self, letters: str) -> None:
        super().__init__()
        self.letters = letters
        terms = letters.partition("->")[0].split(",")
        self.at = terms.index(min(terms, key=lambda t: ("b" in t) or ("." in t)))
        sizes = {"b": 2, "n": 3, "c": 5, "d": 7, "e": 4}
        self.weight = nn.Parameter(torch.randn([sizes[c] for c in terms[self.at]]))

    def forward(self, x: Tensor) -> Tensor:
        operands = (self.weight, x) if self.at == 0 else (x, self.weight)
        return torch.einsum(self.letters, *operands)


@pytest.mark.parametrize("letters", [*LETTERS, *APART])
def test_a_sum_by_letters_is_a_linear_layer_where_it_is_one(letters: str) -> None:
    model, x = Einsum(letters), torch.randn(2, 3, 5)
    program = capture(model, (x,)).exported
    found = {str(node.target) for node in program.graph.nodes}
    assert ("aten.linear.default" in found) == (letters in LETTERS)
    torch.testing.assert_close(program.module()(x), model(x))


class Masked(nn.Module):
    """Attention under a mask that comes with the call."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(x, x, x, mask)


@given(shown=st.lists(st.booleans(), min_size=9, max_size=9), numbers=st.booleans())
def test_rows_hidden_whole_are_zero_as_in_torch(shown: list[bool], numbers: bool) -> None:
    bools = torch.tensor(shown).reshape(3, 3)
    mask = torch.zeros(3, 3).masked_fill(~bools, -torch.inf) if numbers else bools
    x = torch.randn(1, 2, 3, 4)
    program = capture(Masked(), (x, mask)).exported
    torch.testing.assert_close(program.module()(x, mask), Masked()(x, mask))


class Causal(nn.Module):
    """Attention that is but told to be causal."""

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(q, k, k, is_causal=True, scale=1.0)


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (5, 5), (3, 7), (7, 3)])
def test_a_causal_attention_has_its_mask_in_numbers(queries: int, keys: int) -> None:
    args = 1e3 * torch.randn(1, 2, queries, 4), 1e3 * torch.randn(1, 2, keys, 4)
    program = capture(Causal(), args).exported
    (node,) = [n for n in program.graph.nodes if "attention" in str(n.target)]
    assert len(node.args) < 6
    torch.testing.assert_close(program.module()(*args), Causal()(*args))


class Computed(nn.Module):
    """A mask that cannot hide a row whole."""

    def forward(self, x: Tensor, kept: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(x, x, x, ((kept.clamp(0, 1) - 1) * 1e4)[:, None, None])


def test_a_mask_that_hides_no_row_is_left_alone() -> None:
    program = capture(Computed(), (torch.randn(1, 2, 3, 4), torch.ones(1, 3))).exported
    assert not [node for node in program.graph.nodes if "amax" in str(node.target)]


def test_what_is_no_tensor_is_left_out_with_a_note() -> None:
    model = Named().eval()
    program = capture(model, canonical_models.inputs(model))
    assert program.notes == (
        "output 3 of the model is None, no tensor; it is left out of the files",
        "output 4 of the model is 3, no tensor; it is left out of the files",
    )


def test_weights_that_are_computed_are_constants_of_their_own() -> None:
    model = Products().eval()
    with torch.no_grad():
        model.normed.parametrizations.weight.original0.mul_(2)
    exported = capture(model, canonical_models.inputs(model)).exported
    held = exported.state_dict
    torch.testing.assert_close(held["normed.weight"], model.normed.weight)
    assert all(t.is_contiguous() and t.untyped_storage().nbytes() == t.nbytes for t in held.values())
    assert {"halves_0", "halves_1"} <= held.keys()
    assert not {"halves", "low", "high"} & held.keys()


class Unused(nn.Module):
    """What no output needs: a layer for a next block that is not there, and a branch through float16."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.rest, self.cast = nn.Linear(7, 6), nn.Linear(6, 11), nn.Linear(6, 13)

    def forward(self, x: Tensor, given: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        _ = given - self.rest(y), self.cast(y).half().float().tanh()
        return y.half().float()


def test_what_no_output_needs_takes_no_part() -> None:
    model, x = Unused(), (torch.randn(1, 7), torch.randn(1, 11))
    exported = capture(model, x).exported
    assert [want.name for want in requested(exported, recipe.read("fp32"))] == ["layer.weight"]
    operations = [str(n.target) for n in exported.graph.nodes if n.op == "call_function"]
    assert [name for name in operations if "assert" not in name] == ["aten.linear.default", *["aten.to.dtype"] * 2]
    torch.testing.assert_close(exported.module()(*x), model(*x))


@pytest.mark.parametrize(
    "layer",
    [
        lambda x: functional.linear(x, torch.eye(8)[1:4] + torch.ones(8)),
        lambda x: functional.conv1d(x, torch.arange(24.0).reshape(3, 4, 2).flip(0)),
        lambda x: functional.conv_transpose1d(x, torch.ones(4, 1, 2), None, 1, 0, 1, 1, 2),
    ],
)
def test_a_kernel_that_forward_makes_of_numbers_is_a_constant(layer: Callable[[Tensor], Tensor]) -> None:
    class Made(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return layer(x)

    model, x = Made(), torch.randn(1, 4, 8)
    program = capture(model, (x,))
    assert not program.notes
    assert len([node for node in program.exported.graph.nodes if node.op == "placeholder"]) == 2
    torch.testing.assert_close(program.exported.module()(x), model(x))


class Standardised(nn.Module):
    """A convolution whose kernel is a batch norm of its weight (NFNet), and what its memory is written to by."""

    def __init__(self, change: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.weight, self.change = nn.Parameter(torch.randn(4, 3, 2)), change

    def forward(self, x: Tensor) -> Tensor:
        kernel = functional.batch_norm(self.weight.reshape(1, 4, -1), None, None, training=True).reshape(4, 3, 2)
        return self.change(functional.conv1d(x, kernel), self.weight)


@pytest.mark.parametrize(
    ("change", "folded"),
    [
        (lambda y, weight: (2 * y.relu_()).sigmoid_(), True),
        (lambda y, weight: y.transpose(1, 2).flatten(1).clamp_(-1), True),
        (lambda y, weight: y + functional.dropout(weight, training=False).view(-1).mul_(2).sum(), False),
    ],
)
def test_what_is_written_over_a_layer_s_output_leaves_its_weight_a_constant(
    change: Callable[[Tensor, Tensor], Tensor], folded: bool
) -> None:
    x = torch.randn(1, 3, 7)
    exported = capture(Standardised(change).eval(), (x,)).exported
    assert folded == all("batch_norm" not in str(node.target) for node in exported.graph.nodes)


class Copies(nn.Module):
    """Copies in an order of their own that are not waited for, and a constant with a dimension of one out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.randn(1, 4, 2).permute(1, 0, 2))

    def forward(self, x: Tensor) -> Tensor:
        y = x.to(torch.float64, non_blocking=True).to("cpu", torch.float32, memory_format=torch.channels_last)
        return torch.zeros_like(x, memory_format=torch.channels_last) + y.contiguous() + self.table.sum()


def test_copies_are_waited_for_and_lie_in_the_order_of_their_dimensions() -> None:
    model, x = Copies(), torch.randn(2, 3, 4, 5)
    exported = capture(model, (x,)).exported
    said = " ".join(str(node.args) + str(node.kwargs) for node in exported.graph.nodes)
    assert "channels_last" not in said
    assert "True" not in said
    assert exported.state_dict["table"].stride() == (2, 2, 1)
    torch.testing.assert_close(exported.module()(x), model(x), rtol=0, atol=0)


class Spread(nn.Module):
    """A table that is spread over the batch, and one that an operation then writes into."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.start = nn.Parameter(torch.randn(1, 4)), nn.Parameter(torch.randn(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        state = self.start.clone()
        state.add_(x)
        return torch.cat([self.token.expand(64, 4), state])


def test_a_table_spread_out_is_not_written_so_and_a_changed_one_is_no_constant() -> None:
    model, x = Spread(), torch.randn(3, 4)
    exported = capture(model, (x,)).exported
    assert {name: tuple(t.shape) for name, t in exported.state_dict.items()} == {"token": (1, 4), "start": (3, 4)}
    module = exported.module()
    for _ in range(2):
        torch.testing.assert_close(module(x), model(x))


@pytest.mark.parametrize("where", ["input", "weight"])
def test_float64_is_asked_to_be_float32(where: str) -> None:
    model = nn.Linear(3, 2)
    x = torch.randn(1, 3, dtype=torch.float64 if where == "input" else torch.float32)
    with pytest.raises(CaptureError, match=r"float64 \((input 0|weight, bias)\).*model\.float\(\)"):
        capture(model if where == "input" else model.double(), (x,))


class All(nn.Module):
    """All of the models, each with inputs and outputs of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.models = nn.ModuleList(kind() for kind in (*MODELS, Spectra))
        self.counts = [len(canonical_models.inputs(model)) for model in self.models]

    def inputs(self) -> tuple[Tensor, ...]:
        return tuple(x for model in self.models for x in canonical_models.inputs(model))

    def forward(self, *args: Tensor) -> list[object]:
        left = iter(args)
        return [model(*islice(left, count)) for model, count in zip(self.models, self.counts, strict=True)]


class Case:
    """The model, captured once, with what it gives."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = All().eval()
        rows = [self.model.inputs() for _ in range(32)]
        self.samples = Samples(inputs=[np.stack([x.numpy() for x in column]) for column in zip(*rows, strict=True)])
        self.program = capture(self.model, rows[0])
        with torch.no_grad():
            outputs = [[y for y in pytree.tree_leaves(self.model(*row)) if isinstance(y, Tensor)] for row in rows]
        self.reference = [np.stack([y.numpy() for y in column]) for column in zip(*outputs, strict=True)]


QUICK = {("fp32", "coreml"), ("fp32", "tflite"), ("fp32", "executorch"), ("static_wi8_ai8", "onnx")}


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


@pytest.mark.export
@CONVERTERS_WARN
@pytest.mark.parametrize(("name", "target"), sampled(product(("fp32", "static_wi8_ai8"), TARGETS), QUICK))
def test_canonical_forms_reach_every_target(target: str, name: str, case: Case, tmp_path: Path) -> None:
    job = Job(case.program, recipe.read(name), case.samples.arguments)
    path = tmp_path / f"m{exporters.target(target).suffix}"
    exporters.export(target, job, path)
    runtime = exporters.target(target).runtime
    outputs = _child.run(runtime, path, case.samples.inputs, latency_runs=1).outputs
    figures = [parity.compare(r, o.reshape(r.shape)).sqnr_db for r, o in zip(case.reference, outputs, strict=True)]
    assert min(figures) > (100 if name == "fp32" else 25), figures
    found = audit(name, exporters.requested(target, job), _child.inspect(runtime, path).weights)
    assert found.coverage == 1.0, [w for w in found.weights if w.requested and w.dtype != w.requested]
