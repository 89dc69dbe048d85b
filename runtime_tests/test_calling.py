"""How a model is called: whatever the structure of its arguments and outputs, tensors in a row with names."""

import typing
from collections import OrderedDict, UserDict
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import edgepass
from edgepass import structure
from edgepass.calling import Call
from edgepass.errors import InputError
from edgepass.exporters._capture import capture
from edgepass.samples import collect, flatten


class Optional(nn.Module):
    """A mask that may be missing, a number, and several tensors in one argument, all by name only."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(
        self, x: Tensor, *, mask: Tensor | None = None, gain: float = 1.0, more: typing.Sequence[Tensor] = ()
    ) -> dict[str, Any]:
        y = self.layer(x) * gain
        y = y if mask is None else y.masked_fill(mask, 0.0)
        return {"y": sum(more, y), "x": x, "mask": mask}


def row(*shape: int) -> Tensor:
    return torch.randn(1, *shape)


CALLS: list[tuple[Any, tuple[str, ...], tuple[str, ...]]] = [
    ((row(4),), ("x",), ("y", "x_output")),
    ({"x": row(4)}, ("x",), ("y", "x_output")),
    ({"gain": 3.0, "x": row(4)}, ("x",), ("y", "x_output")),
    ({"mask": row(4) > 0, "x": row(4), "more": [row(4)] * 2}, ("mask", "x", "more_0", "more_1"),
     ("y", "x_output", "mask_output")),
    ({"x": row(4), "mask": None, "more": (row(4),)}, ("x", "more_0"), ("y", "x_output")),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize(("example", "inputs", "outputs"), CALLS)
def test_a_call_of_any_structure_is_captured_as_a_row(
    example: Any, inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> None:
    model, call = Optional().eval(), Call.of(example, "here")
    taken = call.positional(model)
    program = capture(taken, call.tensors)
    assert (program.inputs, program.outputs) == (inputs, outputs)
    assert set(program.exported.state_dict) == {"layer.weight", "layer.bias"}
    wanted = flatten(model(**example) if isinstance(example, dict) else model(*example))
    for got in (taken(*call.tensors), program.exported.module()(*call.tensors)):
        for y, x in zip(flatten(got), wanted, strict=True):
            torch.testing.assert_close(torch.from_numpy(y), torch.from_numpy(x))
    assert model.forward.__func__ is Optional.forward, "the user's own model is as it was"  # type: ignore[attr-defined]
    assert not model._forward_hooks


def test_samples_are_given_as_the_example_is() -> None:
    call = Call.of({"x": row(4), "mask": row(4) > 0, "gain": 2.0}, "here")
    x, mask = row(4), row(4) > 0
    given_ = [{"mask": mask, "x": x, "gain": 2.0}, {"gain": 2.0, "x": x, "mask": mask}]
    found = collect(given_, call.tensors, "data", call=call)
    assert [array.shape for array in found.inputs] == [(2, 1, 4), (2, 1, 4)]
    assert found.inputs[0].tolist() == [x.tolist()] * 2
    with_targets = collect([(sample, torch.tensor(3)) for sample in given_], call.tensors, "data", call=call)
    assert with_targets.targets is not None
    assert with_targets.targets.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("sample", "told"),
    [
        ({"x": row(4), "mask": row(4), "gain": 3.0}, "data gives 3.0 for gain, but the model was called with 2.0"),
        ({"x": row(4), "gain": 2.0}, "data gives x, gain, but the model was called with x, mask, gain; give that"),
        ({"x": row(4), "mask": None, "gain": 2.0}, "data gives None for mask, but the model was called with a tensor"),
        ((row(4), row(4)), "data gives argument 0, argument 1, but the model was called with x, mask, gain"),
        ({"x": "y"}, "must give a tuple of tensors, or a dictionary of arguments by name; it gives str"),
        ({"x": 3}, "must give a tuple of tensors, or a dictionary of arguments by name; it gives int"),
    ],
)
def test_a_sample_of_another_call_is_told(sample: Any, told: str) -> None:
    call = Call.of({"x": row(4), "mask": row(4), "gain": 2.0}, "here")
    with pytest.raises(InputError, match=f"^{told}" if told.startswith("data") else told):
        call.row(sample, "data")


def test_a_pair_of_arguments_that_are_lists_is_no_pair_with_a_target() -> None:
    call = Call.of(([row(4), row(4)], row(4)), "here")
    assert len(collect([([row(4), row(4)], row(4))] * 3, call.tensors, "data", call=call).inputs) == 3
    targeted = collect([(([row(4), row(4)], row(4)), 7)] * 3, call.tensors, "data", call=call)
    assert targeted.targets is not None


@dataclass
class Told:
    """As a detector gives it."""

    boxes: Tensor
    scores: tuple[Tensor, Tensor]


class Pair(typing.NamedTuple):
    """As a recurrent layer gives it."""

    last: Tensor
    all: Tensor


T = torch.ones(1)


@pytest.mark.parametrize(
    ("tree", "names"),
    [
        (T, ("output_0",)),
        ((T, None, T), ("output_0", "output_1")),
        ((T, [T, (T, {"a": T})]), ("output_0", "output_1", "output_2", "a")),
        ({"logits": T, "hidden_states": (T, T)}, ("logits", "hidden_states_0", "hidden_states_1")),
        (OrderedDict(x=T), ("x_output",)),
        (UserDict({"to": {"go": T}}), ("to_go",)),
        (Told(T, (T, T)), ("boxes", "scores_0", "scores_1")),
        (Pair(T, T), ("last", "all")),
        ({"a": Told(T, (T, T))}, ("a_boxes", "a_scores_0", "a_scores_1")),
        ({"a/b c": T, "1": T, "é": T, 7: T}, ("a_b_c", "_1", "output_2", "_7")),
        (({"a": T}, {"a": T}), ("a", "a__1")),
        (torch.topk(T, 1), ("output_0", "output_1")),
        (SimpleNamespace(a=T), ()),
    ],
)
def test_outputs_are_called_by_their_keys(tree: Any, names: tuple[str, ...]) -> None:
    paths = [path for path, leaf in structure.leaves(tree) if isinstance(leaf, Tensor)]
    assert structure.names(paths, "output", ["x"]) == names
    leaves = [leaf for leaf in pytree.tree_leaves(structure.plain(tree)) if isinstance(leaf, Tensor)]
    assert len(leaves) == len(names), "torch.export sees the same tensors"


KEYS = st.recursive(
    st.none(), lambda t: st.lists(t, max_size=3) | st.dictionaries(st.text(max_size=3), t, max_size=3), max_leaves=9
)


@given(KEYS)
def test_names_are_words_and_all_different(tree: Any) -> None:
    paths = [path for path, _ in structure.leaves(tree)]
    found = structure.names(paths, "output", ["a", "output_0"])
    assert len(set(found)) == len(found) == len(paths)
    assert all(name.isidentifier() and name.isascii() for name in found)
    assert not {"a", "output_0"}.intersection(found)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*Sparse CSR:UserWarning")
def test_a_scripted_module_is_told_how_to_go_on(tmp_path: Any) -> None:
    scripted = torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2))
    with pytest.raises(InputError, match=r"is a TorchScript module, .*; give the torch.nn.Module that it was scripted"):
        edgepass.build(scripted, (torch.zeros(1, 2),), out=tmp_path / "o")
