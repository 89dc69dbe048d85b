"""Tables of embeddings are int8 in static int8 files, row by row, and are no less accurate for it than they can be."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import edgepass
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.quantize import recipe, tables
from runtime_tests.conftest import CONVERTERS_WARN

pytestmark = [pytest.mark.export, CONVERTERS_WARN]
ROWS, WIDTH, LENGTH = 509, 64, 7


class Tokens(nn.Module):
    """Tokens and places to scores of every token; `tied`: by the table itself."""

    def __init__(self, *, tied: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.token, self.place = nn.Embedding(ROWS, WIDTH, padding_idx=0), nn.Embedding(63, WIDTH)
        self.mix, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, ROWS, bias=not tied)
        if tied:
            self.head.weight = self.token.weight

    def forward(self, ids: Tensor, places: Tensor) -> Tensor:
        scores: Tensor = self.head(torch.relu(self.mix(self.token(ids) + self.place(places))))
        return scores


def sentences(count: int) -> list[tuple[Tensor, Tensor]]:
    return [(torch.randint(ROWS, (1, LENGTH)), torch.randint(63, (1, LENGTH))) for _ in range(count)]


def graph(model: nn.Module, name: str = "static_wi8_ai8") -> torch.fx.GraphModule:
    rows = sentences(8)
    return Job(capture(model.eval(), rows[0]), recipe.read(name), lambda: rows).quantised(fold=True)


def test_a_table_in_int8_is_off_by_half_a_step_of_its_row_at_most() -> None:
    model, (ids, places) = Tokens(), sentences(1)[0]
    found = graph(model)
    assert found.token.weight_rows_int8.dtype == torch.int8
    (lookup, *_) = [n for n in found.graph.nodes if str(n.target) == "token.weight_rows_int8"]
    assert lookup.op == "get_attr"
    assert not [n for n in found.graph.nodes if str(n.target) == "token.weight"]
    steps = found.token.weight_steps
    held = found.token.weight_rows_int8.float() * steps
    assert bool(((held - model.token.weight).abs() <= steps / 2 * 1.0001).all())
    assert bool((held[0] == 0).all())  # the row of the padding
    whole = tables.in_float(found)
    assert whole is None
    assert not [n for n in found.graph.nodes if "rows_int8" in str(n.target)]
    assert found(ids, places).shape == (1, LENGTH, ROWS)


class Waves(nn.Module):
    """Tokens with places that are no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.head = nn.Embedding(ROWS, WIDTH), nn.Linear(WIDTH, 3)
        self.register_buffer("waves", torch.randn(63, WIDTH).sin())

    def forward(self, ids: Tensor, places: Tensor) -> Tensor:
        scores: Tensor = self.head(self.token(ids) + nn.functional.embedding(places, self.waves))
        return scores


def test_what_is_no_parameter_and_what_is_kept_stays_float() -> None:
    held = {str(node.target) for node in graph(Waves()).graph.nodes if node.op == "get_attr"}
    assert {"waves", "token.weight_rows_int8"} <= held
    rows = sentences(4)
    job = Job(capture(Tokens().eval(), rows[0]), recipe.read("int8").keeping(("token",)), lambda: rows)
    held = {str(node.target) for node in job.quantised(fold=True).graph.nodes if node.op == "get_attr"}
    assert {"token.weight", "place.weight_rows_int8"} <= held


@given(st.integers(1, 63), st.sampled_from([1, 2, 63, 61]), st.floats(1e-30, 1e30))
def test_rows_are_rounded_each_on_its_own(rows: int, width: int, scale: float) -> None:
    table = torch.randn(rows, width) * scale * torch.logspace(-3, 3, rows)[:, None]
    table[rows // 2] = 0
    ints, steps = tables.rounded(table)
    assert ints.dtype == torch.int8
    assert bool((ints.abs().amax(1)[table.abs().amax(1) > 0] == 127).all())
    assert bool(torch.isfinite(steps).all())
    assert bool((steps > 0).all())
    assert bool(((ints.float() * steps - table).abs() <= steps * 0.501).all())


@pytest.mark.parametrize("tied", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_files_hold_tables_in_int8(*, tied: bool, tmp_path: Path) -> None:
    made = edgepass.build(
        Tokens(tied=tied).eval(),
        sentences(1)[0],
        out=tmp_path / "out",
        targets=["executorch", "executorch:vulkan", "coreml", "tflite", "onnx"],
        recipe="int8",
        calibration=sentences(16),
        evaluate=sentences(16),
    )
    for record in made.artifacts:
        assert record.verdict == "pass", record.reasons
        assert record.audit is not None
        assert record.conversion is not None
        assert record.conversion.weights is not None
        assert not record.conversion.weights.differing
        held = {weight.name: weight for weight in record.audit.weights}
        places = held["place.weight"]
        if record.target == "executorch:vulkan":
            assert places.reason == "its delegate takes no table in int8, and would be cut in two by one"
            continue
        assert (places.dtype, places.reason) == ("int8", None)
        assert held["head.weight" if tied else "token.weight"].dtype == "int8"
        assert record.float_bytes is not None
        assert record.bytes < 0.55 * record.float_bytes
        assert not record.conversion.weights.uncompared
