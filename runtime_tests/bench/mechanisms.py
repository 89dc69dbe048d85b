"""python -m runtime_tests.bench.mechanisms: measure every cell of the matrix, a file for each mechanism.

Rows are measured in processes of their own, a few in each, and kept in mechanisms/ with the date, the versions and a
hash of the code that they are of, so that a row which its mechanism has left behind is seen.
"""

import ast
import datetime
import hashlib
import inspect
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from edgepass.judging import recording
from runtime_tests.bench import rows
from runtime_tests.matrix import CELLS, Cell, Row, Subject, line, subjects

SAMPLES = 64
"""To judge by: as many as an export takes to tell a file's noise from its graph's."""
ROW_SECONDS = 1800


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One row as it is kept."""

    mechanism: str
    date: str
    code: str
    """SHA-256 of the mechanism's file without its docstrings and imports, as Python reads it."""
    versions: dict[str, str]
    parameters: int
    cells: tuple[Cell, ...]


KEPT = rows.Kept(Path(__file__).with_suffix(""), Measured)


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


def remeasure(mechanism: Subject, kept: Measured, only: rows.Only) -> Measured:
    """The row that is kept, with the cell of that target and recipe measured again; its date stays that of the rest."""
    cell = Row(mechanism, evaluation=SAMPLES).cell(*only)
    return msgspec.structs.replace(kept, cells=rows.with_cell(kept.cells, cell))


@click.command()
@click.argument("names", nargs=-1)
@click.option("--jobs", default=1, show_default=True, help="Rows at a time; more than one disturbs the latencies.")
@click.option("--missing", is_flag=True, help="Only rows that are not there, or were left behind by their code.")
@click.option("--only", nargs=2, metavar="TARGET RECIPE", help="This cell; the others stay as they are kept.")
@click.option("--here", is_flag=True, help="In this process.")
def main(names: Sequence[str], jobs: int, only: tuple[str, str] | None, missing: bool, here: bool) -> None:
    """Measure the mechanisms that are named, or all of them."""
    known = {str(m): m for m in subjects()}
    kept = KEPT.read()
    asked = [known[name] for name in names] if names else list(known.values())
    if missing:
        asked = [m for m in asked if str(m) not in kept or kept[str(m)].code != code(m)]
    if here:
        for mechanism in asked:
            row = remeasure(mechanism, kept[str(mechanism)], only) if only else measure(mechanism)
            KEPT.write(row.mechanism, row)
            for cell in rows.those(row.cells, only):
                click.echo(line(row.mechanism, cell))
        return
    for text in rows.measured("mechanisms", list(map(str, asked)), jobs=jobs, seconds=ROW_SECONDS, only=only):
        click.echo(text)
    KEPT.forget_all_but(list(known))


if __name__ == "__main__":
    main()
