"""python -m runtime_tests.bench.corpus: models of others as files of every target, ours beside the bare converter's.

Each model of runtime_tests/corpus is exported as a user would, with three recipes, and each file judged; then each
converter is called with its own defaults, and its file run on the same samples, turn about with ours. A few models
share a process, and each has a file in corpus/ that is kept; CORPUS.md is their table.
"""

import contextlib
import datetime
import io
import re
import statistics
import sys
import warnings
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import click
import msgspec
import numpy as np
import torch

from edgepass import exporters, pipeline, runtimes
from edgepass.errors import CaptureError, EdgepassError, first_line
from edgepass.judging import files, parity, recording, verdict
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import ArtifactRecord
from edgepass.plan import Plan
from edgepass.runtimes import _child
from edgepass.task import Task
from runtime_tests import corpus
from runtime_tests.bench import pages, rivals, rows
from runtime_tests.bench.measure import interleaved
from runtime_tests.bench.models import Subject
from runtime_tests.matrix import TARGETS, short

HERE = Path(__file__).parent
PAGE, CAUSES = HERE / "CORPUS.md", HERE / "corpus.toml"
RECIPES = ("fp32", "fp16", "static_wi8_ai8")
SECONDS = 2400
"""For a model at most."""
ROUNDS, BURST_S = 15, 0.01
COMPARED = 16
"""Samples on which the two files are compared."""
LESS_DB, MOST_DB, MORE_BYTES, SLOWER = 1.0, 80.0, 1.05, 1.25
"""Worse than bare: by more dB, of at most so many that a float32 file needs; by so many times the bytes; the time, of
which files of equal bytes had up to 1.21 times one another's on a busy machine."""
FOLDERS = re.compile(r"(?<![\w.])/(?:[\w.+-]+/)+")
"""Of an absolute path."""
Outcome = Literal["pass", "fail", "refused"]


class Bare(msgspec.Struct, frozen=True, kw_only=True):
    """The converter's own file. `reason`: why there is none, or why it does not run."""

    reason: str = ""
    bytes: int | None = None
    sqnr_db: float | None = None


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One file of ours. dB are centred but for `sqnr_db`, which is of the same samples as the bare file's."""

    target: str
    recipe: str
    outcome: Outcome
    reasons: tuple[str, ...] = ()
    bytes: int | None = None
    sqnr_db: float | None = None
    loss_db: float | None = None
    """Of the file against the float32 model, by its worst output, and what its graph alone has."""
    expected_db: float | None = None
    agreement: float | None = None
    """Of labels: share in which the file says what the model says."""
    metric: float | None = None
    reference: float | None = None
    delegated: float | None = None
    bare: Bare | None = None
    latency: float | None = None
    """Ours divided by the bare file's; of runtimes that a phone has."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One model."""

    model: str
    date: str
    versions: dict[str, str]
    parameters: int
    seconds: float
    """For all files and judging."""
    cells: tuple[Cell, ...]


KEPT = rows.Kept(HERE / "corpus", Measured)


def measure(name: str, targets: Sequence[str] = TARGETS, recipes: Sequence[str] = RECIPES) -> Measured:
    """Cells of one model, all of them if nothing else is asked for."""
    task = corpus.load(name).task(name)
    with TemporaryDirectory(prefix="edgepass-corpus-") as folder:
        start = datetime.datetime.now()
        records = exported(task, Path(folder) / "ours", targets, recipes)
        seconds = (datetime.datetime.now() - start).total_seconds()
        cells = tuple(_cell(record, task, Path(folder)) for record in records)
    return Measured(
        model=name,
        date=datetime.date.today().isoformat(),
        versions=recording.versions(),
        parameters=sum(p.numel() for p in task.module.parameters()),
        seconds=round(seconds, 1),
        cells=cells,
    )


def remeasure(kept: Measured, only: rows.Only) -> Measured:
    """The model that is kept, with one cell measured again; its date stays that of the rest."""
    (cell,) = measure(kept.model, only[:1], only[1:]).cells
    return msgspec.structs.replace(kept, cells=rows.with_cell(kept.cells, cell))


def exported(
    task: Task, out: Path, targets: Sequence[str] = TARGETS, recipes: Sequence[str] = RECIPES
) -> list[ArtifactRecord]:
    """All files of one model, in `out`, judged as a user's; where it cannot be captured, records of none, and why."""
    plan = Plan.of(targets, recipes)
    try:
        manifest = pipeline.export(task, plan, out, Gates(), say=lambda text: print(text, file=sys.stderr))
    except CaptureError as error:
        asked = product(recipes, targets)
        return [verdict.unwritten(t, exporters.target(t).runtime, r, _placeless(str(error))) for r, t in asked]
    return manifest.artifacts


def _cell(record: ArtifactRecord, task: Task, folder: Path) -> Cell:
    ours = folder / "ours" / record.file if record.file else None
    running = ours if record.outputs else None
    key = record.target, record.recipe
    bare, path = (
        _bare(rivals.BARE[key], task, folder / f"bare-{'-'.join(key)}", key) if key in rivals.BARE else (None, None)
    )
    return Cell(
        target=record.target,
        recipe=record.recipe,
        outcome="refused" if ours is None else "pass" if record.verdict == "pass" else "fail",
        reasons=tuple(record.reasons),
        bytes=record.bytes if ours else None,
        sqnr_db=short(_sqnr(running, record.target, task)) if running else None,
        loss_db=short(record.loss.file_db if record.loss else None),
        expected_db=short(record.loss.expected_db if record.loss else None),
        agreement=short(record.ranking.share if record.ranking else None),
        metric=short(record.metric.value if record.metric else None),
        reference=short(record.metric.reference if record.metric else None),
        delegated=short(record.delegated_flops),
        bare=bare,
        latency=short(_latency(running, path, record.target, task)) if running and path else None,
    )


def _bare(
    convert: Callable[[Subject, Path], None], task: Task, stem: Path, key: tuple[str, str]
) -> tuple[Bare, Path | None]:
    """The converter's own file and what it gives; no path where it cannot be run."""
    assert task.calibration
    path = stem.with_suffix(exporters.target(key[0]).suffix)
    subject = Subject(model=task.module, args=task.args, calibration=task.calibration.arguments(), held_out=[])
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            convert(subject, path)
    except Exception as error:  # whatever a converter raises
        return Bare(reason=_placeless(f"{type(error).__name__}: {first_line(error)}")), None
    size = files.size(path)
    try:
        return Bare(bytes=size, sqnr_db=short(_sqnr(path, key[0], task))), path
    except Exception as error:  # whatever a runtime raises of a file
        return Bare(bytes=size, reason=_placeless(f"does not run: {first_line(error)}")), None


def _placeless(text: str) -> str:
    """The start of it, with files by their names alone, wherever this machine has them."""
    return FOLDERS.sub("", text)[:300]


def _session(path: Path, target: str) -> runtimes.Session:
    runtime = runtimes.runtime(exporters.target(target).runtime)
    runtime.prepare(path)
    return runtime.load(path, threads=1)


def _sqnr(path: Path, target: str, task: Task) -> float:
    """Of the first samples' outputs in all, in dB; 200 where nothing differs. In a process that the file may crash."""
    assert task.evaluation
    samples = task.evaluation.spread(COMPARED)
    wanted = task.reference(samples)
    found = _child.run(exporters.target(target).runtime, path, samples.inputs, warmup=0, latency_runs=1)
    outputs = [np.reshape(given, y.shape) for given, y in zip(found.outputs, wanted, strict=True)]
    return parity.of(wanted, outputs).sqnr_db


def _latency(ours: Path, theirs: Path, target: str, task: Task) -> float | None:
    """Ours divided by theirs, least of rounds by turns on one thread."""
    if target == "coreml":  # run by a reference executor here
        return None
    inputs = [x.numpy() for x in task.args]
    calls = {side: _calling(_session(path, target), inputs) for side, path in (("ours", ours), ("theirs", theirs))}
    once = min(interleaved(calls, rounds=3)["ours"])
    seconds = interleaved(calls, rounds=ROUNDS, burst=max(1, round(BURST_S / once)))
    return min(seconds["ours"]) / min(seconds["theirs"])


def _calling(session: runtimes.Session, inputs: Sequence[Any]) -> Callable[[], object]:
    return lambda: session(inputs)


class Cause(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why cells do not pass, or are worse than the bare converter's; `*` stands for any name."""

    model: str
    target: str
    recipe: str
    reason: str
    link: str = ""

    def fits(self, model: str, cell: Cell) -> bool:
        """Whether it is of this cell."""
        asked = (model, self.model), (cell.target, self.target), (cell.recipe, self.recipe)
        return all(fnmatch(name, pattern) for name, pattern in asked)


def causes() -> list[Cause]:
    """All of corpus.toml."""
    return msgspec.convert(msgspec.toml.decode(CAUSES.read_bytes())["causes"], list[Cause])


def cause(model: str, cell: Cell) -> str:
    """Of a cell, with its link; empty where none is known."""
    return next((f"{c.reason} {c.link}".strip() for c in causes() if c.fits(model, cell)), "")


def worse(cell: Cell) -> str:
    """In what our file is worse than the bare converter's; empty where it is not, or there is none to compare with."""
    bare = cell.bare
    if bare is None or bare.sqnr_db is None or bare.bytes is None:
        return ""
    if cell.sqnr_db is None or cell.bytes is None:
        return f"there is none, and the bare converter's has {bare.sqnr_db:.1f} dB"
    found = []
    if cell.sqnr_db < min(bare.sqnr_db, MOST_DB) - LESS_DB:
        found.append(f"{cell.sqnr_db:.1f} dB for {bare.sqnr_db:.1f}")
    if cell.bytes > MORE_BYTES * bare.bytes:
        found.append(f"{cell.bytes / bare.bytes:.2f} times the bytes")
    if cell.latency is not None and cell.latency > SLOWER and cell.bytes != bare.bytes:
        found.append(f"{cell.latency:.2f} times the time")
    return ", ".join(found)


def page(models: Sequence[Measured]) -> str:
    """CORPUS.md."""
    cells = [(row.model, cell) for row in models for cell in row.cells]
    bares = [cell.bare for _, cell in cells if cell.bare]
    return pages.render(
        "corpus.md.j2",
        {"cell": _sign},
        rows=models,
        unmeasured=[name for name in corpus.names() if name not in {row.model for row in models}],
        targets=TARGETS,
        recipes=RECIPES,
        compared=COMPARED,
        **rows.told(models),
        counts={
            "cells": len(cells),
            "passed": sum(cell.outcome == "pass" for _, cell in cells),
            "failed": sum(cell.outcome == "fail" for _, cell in cells),
            "refused": sum(cell.outcome == "refused" for _, cell in cells),
            "bare": len(bares),
            "bare_none": sum(bare.sqnr_db is None for bare in bares),
        },
        summaries=[
            _summary(t, r, [c for _, c in cells if (c.target, c.recipe) == (t, r)]) for t in TARGETS for r in RECIPES
        ],
        failing=[(m, c, cause(m, c)) for m, c in cells if c.outcome != "pass"],
        worse=[(m, c, what, cause(m, c)) for m, c in cells if (what := worse(c))],
    )


def _summary(target: str, recipe: str, cells: Sequence[Cell]) -> dict[str, Any]:
    """A line of the first table."""
    bares = [cell.bare for cell in cells if cell.bare]
    sizes = [c.bytes / c.bare.bytes for c in cells if c.bytes and c.bare and c.bare.bytes]
    times = [cell.latency for cell in cells if cell.latency]
    mean = statistics.geometric_mean
    return {
        "target": target,
        "recipe": recipe,
        "passed": sum(cell.outcome == "pass" for cell in cells),
        "failed": sum(cell.outcome == "fail" for cell in cells),
        "refused": sum(cell.outcome == "refused" for cell in cells),
        "bare": f"{sum(bare.sqnr_db is not None for bare in bares)} of {len(bares)}" if bares else "-",
        "size": f"{mean(sizes):.2f}" if sizes else "-",
        "latency": f"{mean(times):.2f}; {max(times):.2f}" if times else "-",
    }


def _sign(row: Measured, target: str, recipe: str) -> str:
    """A cell of the second table."""
    found = next((c for c in row.cells if (c.target, c.recipe) == (target, recipe)), None)
    if found is None:
        return ""
    ours = {"pass": "✓", "fail": "x", "refused": "-"}[found.outcome]
    ours += "" if found.sqnr_db is None else f" {found.sqnr_db:.0f}"
    if found.bare is None:
        return ours
    return f"{ours} / {'n' if found.bare.sqnr_db is None else f'{found.bare.sqnr_db:.0f}'}"


def line(name: str, cell: Cell) -> str:
    """A cell for the terminal."""
    bare = cell.bare
    theirs = "" if bare is None else f" | bare {bare.reason[:90] or f'{bare.sqnr_db:6.1f} dB {bare.bytes:9,} B'}"
    ours = "" if cell.sqnr_db is None else f" {cell.sqnr_db:6.1f} dB {cell.bytes:9,} B"
    ratio = "" if cell.latency is None else f" latency {cell.latency:.2f}"
    return f"{name} {cell.target} {cell.recipe}: {cell.outcome}{ours}{theirs}{ratio}" + "".join(
        f"\n    {reason[:400]}" for reason in cell.reasons
    )


@click.command()
@click.argument("names", nargs=-1)
@click.option("--jobs", default=1, show_default=True, help="Models at a time; more than one disturbs the latencies.")
@click.option("--ray", is_flag=True, help="As tasks of Ray, which `pip install ray` brings.")
@click.option("--missing", is_flag=True, help="Only models that are not kept.")
@click.option("--only", nargs=2, metavar="TARGET RECIPE", help="This cell; the others stay as they are kept.")
@click.option("--here", is_flag=True, hidden=True, help="In this process.")
def main(names: Sequence[str], jobs: int, ray: bool, missing: bool, only: rows.Only | None, here: bool) -> None:
    """Measure the models that are named, or all of them."""
    asked = list(names or corpus.names())
    if unknown := set(asked) - set(corpus.names()):
        raise click.UsageError(f"no {', '.join(sorted(unknown))}; there is: {', '.join(corpus.names())}")
    if ray and find_spec("ray") is None:
        raise click.UsageError("--ray needs Ray: pip install ray")
    if here:
        torch.set_num_threads(1)
        for name in asked:
            try:
                row = remeasure(KEPT.read()[name], only) if only else measure(name)
            except EdgepassError as error:  # of the model as a whole
                click.echo(f"{name}: {error}")
                continue
            KEPT.write(name, row)
            click.echo("\n".join(line(name, cell) for cell in rows.those(row.cells, only)))
            sys.stdout.flush()
        return
    if missing:
        asked = [name for name in asked if name not in KEPT.read()]
    for text in rows.measured("corpus", asked, jobs=jobs, seconds=SECONDS, only=only, ray=ray):
        click.echo(text)
    PAGE.write_text(page(list(KEPT.read().values())))


if __name__ == "__main__":
    main()
