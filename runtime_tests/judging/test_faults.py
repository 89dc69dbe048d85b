"""Faults that are planted in a file, a graph or a folder are caught, and what they were planted in passes.

The cheapest of them: `python -m runtime_tests.bench.faults` plants all, for every target, and writes FAULTS.md.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime_tests.bench import faults as table
from runtime_tests.bench import rows
from runtime_tests.conftest import CONVERTERS_WARN
from runtime_tests.faults import FAULTS
from runtime_tests.faults.fault import RECIPES, Fault
from runtime_tests.faults.subject import Folder, Subject, in_this_process

pytestmark = CONVERTERS_WARN
INT8 = "static_wi8_ai8"
TARGETS = ("onnx", "tflite")


def named(fault: Fault) -> str:
    return fault.plant.__name__


def caught(where: str) -> list[Fault]:
    """Those of which FAULTS.md says so."""
    told = {c.fault for row in table.STORE.read().values() for c in row.cells if c.verdict == "fail"}
    return [f for f in FAULTS if f.where == where and f.name in told]


@pytest.fixture(scope="module", params=TARGETS)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """The small model of one target, written once."""
    with in_this_process():
        yield Subject("small", request.param, tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("folder"))


@pytest.mark.export
def test_what_is_healthy_passes(subject: Subject) -> None:
    assert {name: (found.verdict, found.reasons) for name, found in subject.sound()} == dict.fromkeys(
        RECIPES, ("pass", ())
    )


@pytest.mark.export
@pytest.mark.parametrize("fault", caught("weight"), ids=named)
def test_a_spoiled_weight_is_caught(fault: Fault, subject: Subject) -> None:
    recipe = INT8 if INT8 in fault.recipes else fault.recipes[0]
    ((_, found),) = subject.found(fault, (recipe,))
    assert found.verdict == "fail", found
    assert found.reasons


@pytest.mark.export
@pytest.mark.parametrize("fault", caught("folder"), ids=named)
def test_a_spoiled_folder_is_caught(fault: Fault, folder: Folder) -> None:
    assert folder.found(fault).verdict == "fail"


@pytest.mark.export
def test_a_healthy_folder_passes(folder: Folder) -> None:
    found = folder.found(None)
    assert found.verdict == "pass", found.reasons


def test_the_page_is_what_was_kept() -> None:
    assert table.PAGE.read_text() == table.page(), "write it: python -m runtime_tests.bench.faults --page"


def test_a_cell_keeps_its_date_and_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "STORE", rows.Kept(tmp_path, table.Kept))
    monkeypatch.setattr(table.recording, "versions", lambda: {"torch": "1.0"})
    monkeypatch.setattr(table, "today", lambda: "2001-01-01")
    first, second = (table.Cell(fault=f.name, recipe="folder", verdict="fail") for f in FAULTS[:2])
    table.keep("folder", [first, second])
    monkeypatch.setattr(table.recording, "versions", lambda: {"torch": "2.0"})
    monkeypatch.setattr(table, "today", lambda: "2002-02-02")
    table.keep("folder", [second])
    kept = table.STORE.read()["folder"]
    assert [cell.date for cell in kept.cells] == ["2001-01-01", "2002-02-02"]
    assert kept.versions == {"2001-01-01": ("torch 1.0",), "2002-02-02": ("torch 2.0",)}
    table.keep("folder", [first])
    assert list(table.STORE.read()["folder"].versions) == ["2002-02-02"]


def test_what_is_not_evaluated_is_not_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "STORE", rows.Kept(tmp_path, table.Kept))
    names = [f.name for f in FAULTS if f.where == "folder"]
    verdicts = ("fail", "not-evaluated", "pass", "fail")
    cells = [table.Cell(fault=n, recipe="folder", verdict=v) for n, v in zip(names, verdicts, strict=False)]
    table.keep("folder", cells)
    assert "4 cells of fault, target and recipe: 2 caught,\n1 not evaluated, 1 not caught" in table.page()
    told = table.Cell(fault="", recipe="folder", verdict="not-evaluated", reasons=("the manifest has others",))
    assert table.rules(told) == "(M)"


def test_what_passes_is_said_in_words() -> None:
    assert table.rules(table.Cell(fault="", recipe="fp32", verdict="pass")) == "**passes**"
    told = table.Cell(fault="", recipe="fp32", verdict="fail", reasons=("audited coverage is 0.0%", "no such words"))
    assert table.rules(told) == "A?"
