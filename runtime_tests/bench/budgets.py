"""python -m runtime_tests.bench.budgets: how near healthy files come to the bounds of the two budgets.

The bounds in edgepass.judging.expected are set by what this keeps in budgets.json: mechanisms of the catalogue, each in
a small model, written for every target, 64 samples. `--kept` tells of what is kept and measures nothing.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import msgspec
import numpy as np

from edgepass.errors import InputError
from edgepass.judging import expected
from edgepass.judging.manifest import ArtifactRecord
from runtime_tests.matrix import RECIPES, TARGETS, Row, subjects

KEPT = Path(__file__).with_suffix(".json")
SAMPLES = 64


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One file. dB are centred; `ratio` is of noise powers, file over graph, and `deviation` that of its logarithm."""

    mechanism: str
    target: str
    recipe: str
    file_db: float | None
    expected_db: float | None
    worst: str
    worst_db: float | None
    ratio: float | None
    """Of the whole output for which it is largest."""
    slice: str
    slice_ratio: float | None
    """Of the slice nearest to its bound."""
    slice_deviation: float | None
    failed: tuple[str, ...]
    """Reasons that are of a budget."""


def measured(mechanism: str, record: ArtifactRecord) -> Measured:
    """What one record says of the budgets."""
    parity, loss = record.parity, record.loss
    excess = record.conversion.excess if record.conversion else []
    wholes = [e for e in excess if "[" not in e.name]
    part = next((e for e in excess if "[" in e.name), None)
    return Measured(
        mechanism=mechanism,
        target=record.target,
        recipe=record.recipe,
        file_db=_short(loss.file_db if loss else None),
        expected_db=_short(loss.expected_db if loss else None),
        worst=parity.worst.name if parity and parity.worst else "",
        worst_db=_short(parity.worst.centred_db if parity and parity.worst else None),
        ratio=_short(max((e.ratio for e in wholes), default=None)),
        slice=part.name if part else "",
        slice_ratio=_short(part.ratio if part else None),
        slice_deviation=_short(float(np.log(part.bound / expected.MULTIPLE)) / expected.SIGMAS if part else None),
        failed=tuple(r for r in record.reasons if r.startswith(("loss:", "conversion:"))),
    )


def read() -> dict[tuple[str, str, str], Measured]:
    """What is kept, by mechanism, target and recipe."""
    rows = msgspec.json.decode(KEPT.read_bytes(), type=list[Measured]) if KEPT.exists() else []
    return {(row.mechanism, row.target, row.recipe): row for row in rows}


def table(rows: Iterable[Measured]) -> list[str]:
    """For each recipe and target: how many files, and the extremes among them."""
    lines = [
        "| recipe | target | files | file less expected, dB | largest ratio | nearest slice | least slice, dB |",
        "|---|---|---|---|---|---|---|",
    ]
    cells: dict[tuple[str, str], list[Measured]] = {}
    for row in rows:
        cells.setdefault((row.recipe, row.target), []).append(row)
    for (recipe, target), found in sorted(cells.items()):
        apart = [r.file_db - r.expected_db for r in found if r.file_db is not None and r.expected_db is not None]
        nearest = max(
            (r for r in found if r.slice_ratio is not None),
            key=lambda r: (r.slice_ratio or 0) * np.exp(-expected.SIGMAS * (r.slice_deviation or 0)),
            default=None,
        )
        least = min((r for r in found if r.worst_db is not None), key=lambda r: r.worst_db or 0, default=None)
        ratio = max((r.ratio for r in found if r.ratio is not None), default=None)
        near = f"{nearest.slice_ratio:.2f}, deviation {nearest.slice_deviation:.2f}" if nearest else "-"
        lines.append(
            f"| {recipe} | {target} | {len(found)} | {min(apart, default=0):.1f} to {max(apart, default=0):.1f} | "
            f"{'-' if ratio is None else f'{ratio:.2f}'} | {near} | "
            f"{f'{least.worst_db:.1f} ({least.mechanism})' if least else '-'} |"
        )
    return lines


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


@click.command()
@click.argument("names", nargs=-1)
@click.option("--target", "targets", multiple=True, default=TARGETS)
@click.option("--recipe", "recipes", multiple=True, default=RECIPES)
@click.option("--missing", is_flag=True, help="Only cells that are not kept.")
@click.option("--kept", is_flag=True, help="Tell of what is kept.")
def main(names: Sequence[str], targets: Sequence[str], recipes: Sequence[str], missing: bool, kept: bool) -> None:
    """Measure the mechanisms that are named, or all of them, and keep what they show."""
    rows = read()
    known = {str(m): m for m in subjects()}
    for name in () if kept else names or known:
        row = Row(known[name], evaluation=SAMPLES)
        for recipe in recipes:
            for target in targets:
                if missing and (name, target, recipe) in rows:
                    continue
                try:
                    found = measured(name, row.record(target, recipe))
                except InputError as error:
                    click.echo(f"{name} {target} {recipe}: {error}")
                    continue
                rows[name, target, recipe] = found
                click.echo(f"{name} {target} {recipe}: {found.file_db} dB, expected {found.expected_db}{found.failed}")
        ordered = [rows[key] for key in sorted(rows)]
        KEPT.write_bytes(msgspec.json.format(msgspec.json.encode(ordered), indent=1) + b"\n")
    click.echo("\n".join(table(rows.values())))


if __name__ == "__main__":
    main()
