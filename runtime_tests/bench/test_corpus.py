"""What CORPUS.md says is so: each cell that is wanting is explained, and a cell that gets worse fails."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from runtime_tests import corpus
from runtime_tests.bench import corpus as bench
from runtime_tests.bench import draws, rows
from runtime_tests.bench.corpus import Bare, Cause, Cell
from runtime_tests.corpus._foreign import Foreign

KEPT = bench.KEPT.read()
SAMPLE = ("mtcnn_refines",)
"""Of `make test`; the others are of `make test-all`."""
SLACK_DB = 3.0
"""Of another processor's float sums, in int8."""


@pytest.mark.export
@pytest.mark.parametrize("name", [n if n in SAMPLE else pytest.param(n, marks=pytest.mark.slow) for n in KEPT])
def test_no_cell_of_a_model_is_worse_than_it_was(name: str, tmp_path: Path) -> None:
    package = "facenet_pytorch" if name.startswith("mtcnn") else "timm"
    pytest.importorskip(package, reason=f"pip install --no-deps {package.replace('_', '-')}, as `make` does")
    was = {(cell.target, cell.recipe): cell for cell in KEPT[name].cells}
    for record in bench.exported(corpus.load(name).task(name), tmp_path / "out"):
        before = was[record.target, record.recipe]
        what = f"{name} {record.target} {record.recipe}: {'; '.join(record.reasons)}"
        assert before.outcome != "pass" or record.verdict == "pass", what
        assert before.outcome != "fail" or record.file, what
        if before.loss_db is not None and record.loss and record.loss.file_db is not None:
            assert record.loss.file_db >= min(before.loss_db, bench.MOST_DB) - SLACK_DB, what


def test_what_is_kept_is_whole() -> None:
    assert set(KEPT) <= set(corpus.names())
    assert set(SAMPLE) <= set(KEPT)
    said = {
        row.model: [text for c in row.cells for text in (*c.reasons, *([c.bare.reason] if c.bare else []))]
        for row in KEPT.values()
    }
    assert not [model for model, texts in said.items() if any(map(bench.FOLDERS.search, texts))], (
        "a path of this machine"
    )
    assert all(len(row.cells) == len(bench.TARGETS) * len(bench.RECIPES) for row in KEPT.values())


class Deciding(nn.Module):
    """What torch.export cannot capture."""

    def forward(self, x: Tensor) -> Tensor:
        """By the values of x."""
        return x if x.sum() > 0 else -x


def test_a_model_that_cannot_be_captured_has_a_row_of_refusals(tmp_path: Path) -> None:
    foreign = Foreign(make=Deciding, data=lambda count, seed: ([torch.ones(count, 3)], None))
    records = bench.exported(foreign.task("deciding"), tmp_path / "out")
    assert len(records) == len(bench.TARGETS) * len(bench.RECIPES)
    assert not any(record.file for record in records)
    (reason,) = {reason for record in records for reason in record.reasons}
    assert "`return x if x.sum() > 0 else -x`" in reason
    assert not bench.FOLDERS.search(reason)


def test_each_cell_that_does_not_pass_or_is_worse_than_bare_has_its_cause() -> None:
    wanting = [(row.model, cell) for row in KEPT.values() for cell in row.cells if _wants(cell)]
    assert not [f"{m} {c.target} {c.recipe}" for m, c in wanting if not bench.cause(m, c)]
    idle = [cause for cause in bench.causes() if not any(cause.fits(m, c) for m, c in wanting)]
    assert not idle, "a cause of nothing"


def _wants(cell: Cell) -> bool:
    return cell.outcome != "pass" or bool(bench.worse(cell))


def test_the_page_is_of_what_is_kept() -> None:
    assert bench.PAGE.read_text() == bench.page(list(KEPT.values()))


@pytest.mark.parametrize(
    ("cell", "bare", "what"),
    [
        ({"sqnr_db": 30.0, "bytes": 100}, {"sqnr_db": 30.9, "bytes": 100}, ""),
        ({"sqnr_db": 30.0, "bytes": 100}, {"sqnr_db": 31.1, "bytes": 100}, "30.0 dB for 31.1"),
        ({"sqnr_db": 90.0, "bytes": 100}, {"sqnr_db": 150.0, "bytes": 100}, ""),
        ({"sqnr_db": 30.0, "bytes": 106}, {"sqnr_db": 30.0, "bytes": 100}, "1.06 times the bytes"),
        ({"sqnr_db": 30.0, "bytes": 90, "latency": 1.5}, {"sqnr_db": 30.0, "bytes": 100}, "1.50 times the time"),
        (
            {"outcome": "refused"},
            {"sqnr_db": 30.0, "bytes": 100},
            "there is none, and the bare converter's has 30.0 dB",
        ),
        ({"outcome": "refused"}, {"reason": "does not run"}, ""),
    ],
)
def test_worse_is_told_by_what(cell: dict[str, object], bare: dict[str, object], what: str) -> None:
    given = {"target": "onnx", "recipe": "fp32", "outcome": "pass", **cell, "bare": bare}
    assert bench.worse(msgspec.convert(given, Cell)) == what
    assert not bench.worse(msgspec.structs.replace(msgspec.convert(given, Cell), bare=None))


def test_a_cause_is_of_the_cells_that_it_names() -> None:
    cause = Cause(model="lstm", target="*", recipe="fp32", reason="it is")
    cell = Cell(target="onnx", recipe="fp32", outcome="fail", bare=Bare(reason="none"))
    assert cause.fits("lstm", cell)
    assert not cause.fits("gru", cell)
    assert not cause.fits("lstm", msgspec.structs.replace(cell, recipe="fp16"))


@pytest.mark.parametrize("ray", [False, True])
def test_rows_are_measured_in_processes_of_their_own(ray: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if ray:
        pytest.importorskip("ray", reason="pip install ray")
    monkeypatch.setattr(rows, "BATCH", 1)
    said = list(rows.measured("corpus", ["one", "two"], jobs=2, seconds=100, only=None, ray=ray))
    assert ["no one; there is" in said[0], "no two; there is" in said[1]] == [True, True]


def test_without_ray_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "find_spec", lambda name: None)
    done = CliRunner().invoke(bench.main, ["--ray", "gru"])
    assert done.exit_code == 2
    assert "pip install ray" in done.output


def test_what_is_drawn_has_a_row_for_each_sample() -> None:
    class Named(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            return {"sum": x + y, "x": x}

    x, y = torch.randn(63, 3), torch.randn(63, 3)
    np.testing.assert_array_equal(draws.first_output(Named(), [x, y]), (x + y).numpy())
