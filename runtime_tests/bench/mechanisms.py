"""python -m runtime_tests.bench.mechanisms: measure every cell of the matrix, a file for each mechanism.

Rows are measured in processes of their own, a few in each, and kept in mechanisms/ with the date, the versions and a
hash of the code that they are of, so that a row which its mechanism has left behind is seen.
"""

import ast
import datetime
import hashlib
import inspect
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import click
import msgspec

from edgepass.judging import recording
from runtime_tests.matrix import CELLS, Cell, Row, Subject, line, subjects

FOLDER = Path(__file__).with_suffix("")
SAMPLES = 64
"""To judge by: as many as an export takes to tell a file's noise from its graph's."""
ROW_SECONDS, BATCH = 1800, 6


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One row as it is kept."""

    mechanism: str
    date: str
    code: str
    """SHA-256 of the mechanism's file without its docstrings and imports, as Python reads it."""
    versions: dict[str, str]
    parameters: int
    cells: tuple[Cell, ...]


def code(mechanism: Subject) -> str:
    """Hash of what the mechanism's file does."""
    tree = ast.parse(inspect.getsource(mechanism.module))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [n for n in body if not _is_text(n) and not _is_import(n)]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_import(node: ast.AST) -> bool:
    """Where a name comes from is not what is done with it."""
    return isinstance(node, (ast.Import, ast.ImportFrom))


def measure(mechanism: Subject) -> Measured:
    """All cells of one mechanism."""
    row = Row(mechanism, evaluation=SAMPLES)
    return Measured(
        mechanism=str(mechanism),
        date=datetime.date.today().isoformat(),
        code=code(mechanism),
        versions=recording.versions(),
        parameters=sum(p.numel() for p in row.task.module.parameters()),
        cells=tuple(row.cell(target, recipe) for target, recipe in CELLS),
    )


def remeasure(mechanism: Subject, kept: Measured, only: tuple[str, str]) -> Measured:
    """The row that is kept, with the cell of that target and recipe measured again; its date stays that of the rest."""
    cell = Row(mechanism, evaluation=SAMPLES).cell(*only)
    cells = (cell if (each.target, each.recipe) == only else each for each in kept.cells)
    return msgspec.structs.replace(kept, cells=tuple(cells))


def read() -> dict[str, Measured]:
    """The rows that are kept, by mechanism."""
    rows = [msgspec.json.decode(file.read_bytes(), type=Measured) for file in sorted(FOLDER.glob("*.json"))]
    return {row.mechanism: row for row in rows}


def write(row: Measured) -> None:
    """Keep a row in the place of its last."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{row.mechanism}.json").write_bytes(msgspec.json.format(msgspec.json.encode(row), indent=1) + b"\n")


def _in_a_process(names: Sequence[str], only: tuple[str, str] | None = None) -> str:
    """Measure a few rows in a fresh interpreter, which imports the converters once; what it printed."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "runtime_tests.bench.mechanisms",
            "--here",
            *names,
            *(("--only", *only) if only else ()),
        ],
        capture_output=True,
        text=True,
        timeout=ROW_SECONDS * len(names),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    died = "" if done.returncode == 0 else f"{' '.join(names)}: exit {done.returncode}\n{done.stderr[-2000:]}"
    return done.stdout + died


@click.command()
@click.argument("names", nargs=-1)
@click.option("--jobs", default=1, show_default=True, help="Rows at a time; more than one disturbs the latencies.")
@click.option("--missing", is_flag=True, help="Only rows that are not there, or were left behind by their code.")
@click.option("--only", nargs=2, metavar="TARGET RECIPE", help="This cell; the others stay as they are kept.")
@click.option("--here", is_flag=True, help="In this process.")
def main(names: Sequence[str], jobs: int, only: tuple[str, str] | None, missing: bool, here: bool) -> None:
    """Measure the mechanisms that are named, or all of them."""
    known = {str(m): m for m in subjects()}
    kept = read()
    asked = [known[name] for name in names] if names else list(known.values())
    if missing:
        asked = [m for m in asked if str(m) not in kept or kept[str(m)].code != code(m)]
    if here:
        for mechanism in asked:
            row = remeasure(mechanism, kept[str(mechanism)], only) if only else measure(mechanism)
            write(row)
            for cell in [cell for cell in row.cells if only in (None, (cell.target, cell.recipe))]:
                click.echo(line(row.mechanism, cell))
        return
    batches = [[str(m) for m in asked[i : i + BATCH]] for i in range(0, len(asked), BATCH)]
    with ThreadPoolExecutor(jobs) as pool:
        for text in pool.map(partial(_in_a_process, only=only), batches):
            click.echo(text.rstrip())
    for stale in FOLDER.glob("*.json"):
        if stale.stem not in known:
            stale.unlink()


if __name__ == "__main__":
    main()
