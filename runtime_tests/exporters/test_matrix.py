"""Mechanism x target x recipe: every cell is written, run from its file and judged; a sample in `make test`."""

import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgepass import catalog
from edgepass.models import mixers
from runtime_tests.bench import catalogue, mechanisms
from runtime_tests.conftest import CONVERTERS_WARN
from runtime_tests.matrix import CELLS, Cell, Row, Subject, line, subjects

pytestmark = [pytest.mark.export, CONVERTERS_WARN]
MECHANISMS = subjects()
QUICK = {("onnx", "fp16"), ("tflite", "static_wi8_ai8")}
EVERY, SAMPLE = 4, 5
"""Every fourth mechanism is sampled, in a cell that is five on from the last one's: prime to their number, so that all
are seen."""


def cells(mechanisms: Iterable[Subject]) -> list[Any]:
    """Every cell; those outside the sample are slow."""
    found: list[Any] = []
    for number, mechanism in enumerate(mechanisms):
        for place, (target, recipe) in enumerate(CELLS):
            sampled = number % EVERY == 0 and place == number // EVERY * SAMPLE % len(CELLS)
            marks = () if sampled else (pytest.mark.slow,)
            found.append(pytest.param(mechanism, target, recipe, marks=marks, id=f"{mechanism}-{target}-{recipe}"))
    return found


@lru_cache(maxsize=1)
def row(mechanism: Subject) -> Row:
    """The row at hand; its cells come one after another."""
    return Row(mechanism)


@pytest.mark.parametrize(("mechanism", "target", "recipe"), cells(MECHANISMS))
def test_every_cell_passes_or_is_explained(mechanism: Subject, target: str, recipe: str) -> None:
    cell = row(mechanism).cell(target, recipe)
    because = catalogue.explanation(str(mechanism), cell)
    assert (cell.verdict == "pass") != (because is not None), line(str(mechanism), cell)


TOY = '''
"""A token and what came before it, half and half.

    y_n = (x_n + x_(n-1)) / 2 W

Shapes: x and y are [B, N, D].
Source: Nobody, "A Toy", 2026.
"""

from torch import nn
from torch.nn import functional

from edgepass.models import parts

GRADE = 0


class Settings(parts.Settings, frozen=True):
    """There is nothing to set."""


class Mixer(nn.Module):
    def __init__(self, tokens, settings):
        super().__init__()
        self.mix = nn.Linear(tokens.dim, tokens.dim)

    def forward(self, x_BND):
        return self.mix((x_BND + functional.pad(x_BND, (0, 0, 1, 0))[:, :-1]) * 0.5)
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Subject]:
    """A new file among the mixers, and nothing else."""
    (tmp_path / "toy.py").write_text(TOY)
    monkeypatch.setattr(mixers, "__path__", [*mixers.__path__, str(tmp_path)])
    (found,) = (s for s in subjects() if s.name == "toy")
    yield found
    sys.modules.pop("edgepass.models.mixers.toy", None)


def test_a_mixer_in_one_new_file_is_on_offer_and_in_every_cell(toy: Subject) -> None:
    assert "toy" in catalog.names("mixers")
    assert {p.values[1:] for p in cells(subjects()) if p.values[0] == toy} == set(CELLS)
    assert mechanisms.code(toy)


@pytest.mark.parametrize(
    ("target", "recipe"),
    [pytest.param(*c, marks=() if c in QUICK else (pytest.mark.slow,), id="-".join(c)) for c in CELLS],
)
def test_a_mixer_in_one_new_file_passes_every_cell(toy: Subject, target: str, recipe: str) -> None:
    cell = Row(toy).cell(target, recipe)
    assert cell.verdict == "pass", line(str(toy), cell)


@pytest.mark.slow  # which is where all cells are made: a change is judged at once, its figures are kept when measured
def test_every_mechanism_has_a_measured_row_of_its_present_code() -> None:
    kept = mechanisms.KEPT.read()
    old = [str(m) for m in MECHANISMS if str(m) not in kept or kept[str(m)].code != mechanisms.code(m)]
    assert not old, f"measure them: python -m runtime_tests.bench.mechanisms {' '.join(old)}"


def test_no_kept_cell_is_left_without_an_explanation() -> None:
    for name, kept in mechanisms.KEPT.read().items():
        assert [(c.target, c.recipe) for c in kept.cells] == CELLS
        for cell in kept.cells:
            assert (cell.verdict == "pass") != (catalogue.explanation(name, cell) is not None), line(name, cell)


def test_the_catalogue_is_what_docstrings_and_measurements_say() -> None:
    assert catalogue.PAGE.read_text() == catalogue.page(), "write it: python -m runtime_tests.bench.catalogue"


def test_a_cell_is_explained_only_where_every_part_of_the_name_fits() -> None:
    explanation = catalogue.Explanation(
        mechanism="mixers.*", target="coreml", recipe="*", says="x", reason="because", link="https://example.org"
    )
    failed = Cell(target="coreml", recipe="fp16", verdict="fail", reasons=("it says x here",))
    assert explanation.fits("mixers.pooling", failed)
    assert not explanation.fits("heads.forecast", failed)
    assert not explanation.fits("mixers.pooling", msgspec.structs.replace(failed, target="onnx"))
    assert not explanation.fits("mixers.pooling", msgspec.structs.replace(failed, reasons=("another",)))


def test_every_line_of_the_checklist_has_a_test() -> None:
    assert [line for line, tests in catalogue.promises().items() if not tests] == []
