"""One cell of the matrix: a mechanism written for a target under a recipe, run from the file, and judged.

`python -m runtime_tests.matrix mixers.pooling [--target T] [--recipe R]` prints the cells of some mechanisms.
"""

from collections.abc import Callable
from functools import cached_property
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Protocol

import click
import msgspec

from edgepass import catalog, exporters, pipeline
from edgepass.errors import InputError
from edgepass.exporters import Job
from edgepass.judging import verdict
from edgepass.judging.expected import Expected
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import ArtifactRecord, Fallback
from edgepass.quantize import recipe
from edgepass.task import Task
from runtime_tests.compositions import COMPOSITIONS
from runtime_tests.mechanisms import EVALUATION, every
from runtime_tests.prepared import Prepared

TARGETS = [name for name in catalog.names("targets") if ":" not in name]
"""Of the matrix: one a format. The other delegates of a format have tests of their own."""
RECIPES = catalog.names("recipes")
CELLS = [
    (target, name)
    for target, name in product(TARGETS, RECIPES)
    if recipe.read(name).scheme not in exporters.target(target).refuses
]
"""Of every row: what each target offers."""
MIN_DELEGATED = 0.95
"""Of the FLOPs of a mechanism of grade 0 or 1, in ExecuTorch."""


class Noise(msgspec.Struct, frozen=True, kw_only=True):
    """How near a file came to the bounds of the two budgets. dB are centred; a ratio is of noises, file over graph."""

    file_db: float | None
    expected_db: float | None
    worst: str
    """The slice that keeps least of its signal."""
    worst_db: float | None
    ratio: float | None
    """Of the whole output for which it is largest."""
    slice: str
    """The one whose ratio is nearest to its bound."""
    slice_ratio: float | None
    slice_bound: float | None

    @classmethod
    def of(cls, record: ArtifactRecord) -> "Noise":
        """What one record says of it."""
        loss, worst = record.loss, record.parity.worst if record.parity else None
        excess = record.conversion.excess if record.conversion else []
        part = next((e for e in excess if "[" in e.name), None)
        return cls(
            file_db=short(loss.file_db if loss else None),
            expected_db=short(loss.expected_db if loss else None),
            worst=worst.name if worst else "",
            worst_db=short(worst.centred_db if worst else None),
            ratio=short(max((e.ratio for e in excess if "[" not in e.name), default=None)),
            slice=part.name if part else "",
            slice_ratio=short(part.ratio if part else None),
            slice_bound=short(part.bound if part else None),
        )


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """What one file showed. Where none could be written, `reasons` says why and the figures are null."""

    target: str
    recipe: str
    verdict: str
    reasons: tuple[str, ...] = ()
    bytes: int | None = None
    peak_bytes: int | None = None
    p50_us: float | None = None
    evidence: str | None = None
    sqnr_db: float | None = None
    noise: Noise | None = None
    delegated: float | None = None
    fallbacks: tuple[str, ...] = ()


class Subject(Protocol):
    """What a row is of: a mechanism, or a composition of several."""

    @property
    def kind(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def module(self) -> ModuleType:
        """The file that says what it is."""
        ...

    @property
    def grade(self) -> int:
        """How it exports, by edgepass.models.parts.GRADES."""
        ...

    def task(self, evaluation: int = EVALUATION) -> Task:
        """A small model of it, and data, that many samples of them to judge it by."""
        ...


def subjects() -> list[Subject]:
    """Of all rows, in their order."""
    return [*every(), *COMPOSITIONS]


class Row(Prepared):
    """A mechanism, its model captured once and quantised once, for all of its cells."""

    def __init__(self, mechanism: Subject, evaluation: int = EVALUATION) -> None:
        self.mechanism = mechanism
        self.evaluation = evaluation
        self.jobs: dict[str, Job] = {}
        self.expected: dict[str, Callable[[str], Expected]] = {}

    @cached_property
    def task(self) -> Task:
        """The small model and its data."""
        return self.mechanism.task(self.evaluation)

    def record(self, target: str, name: str) -> ArtifactRecord:
        """Write the file, run it, judge it. Raises InputError where it cannot be written."""
        suffix = exporters.target(target).suffix
        bounds = Gates(min_delegated=MIN_DELEGATED if target == "executorch" and self.mechanism.grade <= 1 else None)
        job = self._job(name)
        expected = self.expected.setdefault(name, pipeline.expectations(job))(target)
        with TemporaryDirectory(prefix="edgepass-matrix-") as folder:
            candidate = pipeline.convert(target, job, Path(folder) / f"{self.mechanism.name}{suffix}", expected)
            return verdict.judge(candidate, self.standard, bounds)[0]

    def cell(self, target: str, name: str) -> Cell:
        """What one file showed."""
        try:
            record = self.record(target, name)
        except InputError as error:
            return Cell(target=target, recipe=name, verdict="not written", reasons=(str(error),))
        return Cell(
            target=target,
            recipe=name,
            verdict=record.verdict,
            reasons=tuple(record.reasons),
            bytes=record.bytes,
            peak_bytes=record.memory.peak_bytes if record.memory else None,
            p50_us=round(record.latency.p50_us, 1) if record.latency else None,
            evidence=record.latency.evidence if record.latency else None,
            sqnr_db=round(record.parity.sqnr_db, 1) if record.parity else None,
            noise=Noise.of(record),
            delegated=None if record.delegated_flops is None else round(record.delegated_flops, 4),
            fallbacks=tuple(sorted({_fallback(f) for f in record.fallbacks})),
        )

    def _job(self, name: str) -> Job:
        if name not in self.jobs:
            assert self.task.calibration
            self.jobs[name] = Job(self.program, recipe.read(name), self.task.calibration.arguments)
        return self.jobs[name]


def short(value: float | None) -> float | None:
    """Four digits of it."""
    return None if value is None else float(f"{value:.4g}")


def _fallback(fallback: Fallback) -> str:
    return f"{fallback.op} in {fallback.module or 'the model'}: {fallback.reason}"


@click.command()
@click.argument("mechanisms", nargs=-1)
@click.option("--target", "targets", multiple=True, default=TARGETS)
@click.option("--recipe", "recipes", multiple=True, default=RECIPES)
def main(mechanisms: tuple[str, ...], targets: tuple[str, ...], recipes: tuple[str, ...]) -> None:
    """Print the cells of some mechanisms, or of all."""
    known = {str(m): m for m in subjects()}
    if unknown := set(mechanisms) - known.keys():
        raise click.UsageError(f"no {', '.join(sorted(unknown))}; there is: {', '.join(known)}")
    for name in mechanisms or known:
        row = Row(known[name])
        for target, number_format in CELLS:
            if target in targets and number_format in recipes:
                print(line(name, row.cell(target, number_format)), flush=True)


def line(name: str, cell: Cell) -> str:
    """A cell for the terminal."""
    figures = "-" if cell.sqnr_db is None else f"{cell.sqnr_db:6.1f} dB {cell.bytes:7,} B {cell.p50_us:8,.1f} us"
    share = "" if cell.delegated is None else f" {cell.delegated:.1%} delegated"
    notes = "".join(f"\n    {text}" for text in (*cell.reasons, *cell.fallbacks))
    return f"{name} {cell.target} {cell.recipe}: {cell.verdict} {figures}{share}{notes}"


if __name__ == "__main__":
    main()
