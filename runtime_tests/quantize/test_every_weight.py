"""The audit asks for every weight that takes part, finds it however it lies, and names what stays in float."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from edgepass.exporters._capture import capture
from edgepass.judging import gates
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import Weight
from edgepass.quantize import recipe
from edgepass.quantize.audit import Requested, audit, requested
from edgepass.quantize.recipe import Recipe
from runtime_tests.judging.test_parity import record

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch.export, of torch's own pytree


class Every(nn.Module):
    """A weight of each kind, and one that takes no part."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2)
        self.deep, self.cube = nn.Conv2d(6, 6, 3, padding="same", groups=6), nn.Conv3d(1, 2, (1, 2, 2))
        self.heads, self.table = nn.Parameter(torch.randn(3, 5, 7)), nn.Embedding(11, 5)
        self.lstm, self.out, self.kept = nn.LSTM(5, 3, batch_first=True), nn.Linear(3, 4), nn.Linear(4, 4)
        self.shift, self.matrix = nn.Linear(4, 4), nn.Parameter(torch.randn(5, 9))

    def forward(self, image: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
        x = self.table(ids)
        y = self.out(self.lstm(x)[0]) + self.shift(torch.ones(1, 4))
        return self.cube(self.deep(self.up(image))[:, None]), x[:, None] @ self.heads, self.kept(y), x @ self.matrix


def wanted(chosen: Recipe) -> dict[str, Requested]:
    args = torch.randn(1, 4, 6, 5), torch.zeros(1, 7, dtype=torch.int64)
    return {want.name: want for want in requested(capture(Every().eval(), args).exported, chosen)}


EVERY = {
    "up.weight", "deep.weight", "cube.weight", "heads", "table.weight", "lstm.weight_ih_l0", "lstm.weight_hh_l0",
    "out.weight", "kept.weight", "matrix",
}  # fmt: skip


def test_every_weight_that_takes_part_is_asked_for() -> None:
    found = wanted(recipe.read("fp32"))
    assert set(found) == EVERY
    assert not [want for want in found.values() if want.reason]


def test_what_stays_in_float_is_named_with_the_reason() -> None:
    found = wanted(replace(recipe.read("static_wi8_ai8"), keep=("kept",)))
    assert set(found) == EVERY
    said = {name: want.reason.partition(",")[0] for name, want in found.items() if want.reason}
    assert said == {
        "up.weight": "a transposed convolution in groups",
        "cube.weight": "a convolution over three dimensions",
        "heads": "a product with a matrix for each member of a batch",
        "lstm.weight_ih_l0": "a recurrent layer",
        "lstm.weight_hh_l0": "a recurrent layer",
        "kept.weight": "kept in float32 by the recipe or the model",
    }


class Branches(nn.Module):
    """Weights in branches within a branch, in a loop, and a table that is read by index."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d, self.e = (nn.Linear(4, 4) for _ in range(5))
        self.table = nn.Parameter(torch.randn(9, 4))

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        def upper(h: Tensor) -> Tensor:
            deep: Tensor = torch.cond(h.sum() > 1, lambda t: self.a(t), lambda t: self.b(t) + 1, (h,))
            return deep * 2

        y: Tensor = torch.cond(x.sum() > 0, upper, lambda t: self.c(t), (self.d(x),))
        (z,) = torch.while_loop(lambda t: t.sum() < 9, lambda t: (self.e(t).abs() + 1,), (y,))
        return z + self.table[ids]


def test_weights_in_loops_and_tables_read_by_index_are_named() -> None:
    args = torch.randn(1, 4), torch.zeros(1, dtype=torch.int64)
    program = capture(Branches().eval(), args).exported
    said = {want.name: want.reason for want in requested(program, recipe.read("static_wi8_ai8"))}
    inside = "inside a branch or a loop, which no quantiser enters"
    table = "a table that is read by index, which converters lay out and round as any other value"
    assert said == dict.fromkeys(("d.weight", "a.weight", "b.weight", "c.weight"), "") | {
        "e.weight": inside,
        "table": table,
    }
    said = {want.name: want.reason for want in requested(program, recipe.read("fp16"))}
    assert [name for name, reason in said.items() if not reason] == [
        "d.weight",
        "a.weight",
        "b.weight",
        "c.weight",
        "e.weight",
    ]


class Types(nn.Module):
    """A lookup of token types that are always 0, as BERT-like models have it, beside one of words."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.types = nn.Embedding(11, 5), nn.Embedding(2, 5)
        self.register_buffer("zeros", torch.zeros(1, 7, dtype=torch.int64))

    def forward(self, ids: Tensor) -> Tensor:
        return self.words(ids) + self.types(self.zeros)


def test_a_weight_that_no_input_reads_may_be_kept_as_its_result() -> None:
    program = capture(Types().eval(), (torch.zeros(1, 7, dtype=torch.int64),)).exported
    asked_for = requested(program, recipe.read("fp16"))
    assert {want.name for want in asked_for if want.reason} == {"types.weight"}
    folded = audit("fp16", asked_for, held((11, 5), dtype="float16"))
    assert folded.coverage == 1.0
    assert [(w.name, w.dtype) for w in folded.weights if w.reason] == [("types.weight", "absent")]
    assert audit("fp16", asked_for, held((2, 5), dtype="float16")).coverage == pytest.approx(2 / 13), "words are not"


def held(*shapes: tuple[int, ...], dtype: str = "int8") -> list[Weight]:
    return [Weight(name=f"w{n}", shape=shape, dtype=dtype) for n, shape in enumerate(shapes)]


def asked(*shape: int, reason: str = "", groups: int = 1, joins: bool = False) -> Requested:
    return Requested(name="weight", shape=shape, dtype="int8", reason=reason, groups=groups, joins=joins)


@given(groups=st.integers(2, 5), inputs=st.integers(1, 3), outputs=st.integers(1, 4))
def test_groups_are_found_as_parts_and_along_another_dimension(groups: int, inputs: int, outputs: int) -> None:
    want = asked(groups * inputs, outputs, 3, 3, groups=groups)
    parts = [(inputs, outputs, 3, 3)] * groups
    assert audit("r", [want], held(*parts)).coverage == 1.0
    assert audit("r", [want], held((groups * outputs, 3, 3, inputs))).coverage == 1.0
    assert audit("r", [want], held(*parts[1:])).coverage == 0.0, "one part is missing"
    assert audit("r", [want], [*held(*parts[1:]), *held(parts[0], dtype="float32")]).coverage == 0.0


def test_weights_of_recurrent_layers_are_found_where_a_file_joins_them() -> None:
    names = ("forward", "backward")
    wants = [replace(asked(12, 5, joins=True), name=name) for name in names]
    found = audit("r", wants, held((2, 12, 5)))
    assert found.coverage == 1.0
    assert [(w.name, w.shape) for w in found.weights] == [(name, (12, 5)) for name in names]
    assert audit("r", [*wants, replace(wants[0], name="third")], held((2, 12, 5))).coverage == pytest.approx(2 / 3)


def test_a_weight_left_in_float_is_in_the_table_and_not_counted() -> None:
    found = audit("r", [asked(3, 5), replace(asked(7, 5, reason="why"), name="left")], [
        *held((3, 5)), *held((7, 5), dtype="float32")
    ])  # fmt: skip
    assert found.coverage == 1.0
    assert [(w.name, w.requested, w.reason) for w in found.weights] == [
        ("weight", "int8", None), ("left", None, "why"),
    ]  # fmt: skip
    made = audit("r", [asked(7, 5, reason="why")], held((7, 5)))
    assert [(w.requested, w.reason) for w in made.weights] == [("int8", None)], "a target did it all the same"


def test_a_failed_coverage_names_the_weights() -> None:
    found = audit("r", [asked(3, 5), replace(asked(7, 5), name="other")], held((3, 5), dtype="float32"))
    outcome, reasons = gates.judge(record(audit=found), Gates(min_coverage=1.0))
    assert outcome == "fail"
    assert reasons == ["audited coverage is 0.0%, less than 100.0%: weight is float32, other is absent"]
