"""python -m runtime_tests.bench.catalogue: CATALOGUE.md from docstrings, measured rows, and the tests' promises."""

import ast
import inspect
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec

from edgepass.models import parts
from runtime_tests.bench import budgets, mechanisms, pages, passes, rows, scaling
from runtime_tests.bench.mechanisms import Measured
from runtime_tests.matrix import RECIPES, TARGETS, Cell, subjects

HERE = Path(__file__).parent
PAGE = HERE / "CATALOGUE.md"
TESTS = HERE.parent


class Explanation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why some cells cannot be. Names are shell globs; `says` must stand in the cell's own reasons."""

    mechanism: str
    target: str
    recipe: str
    says: str
    reason: str
    link: str
    """Where the line that shows it can be read."""

    def fits(self, mechanism: str, cell: Cell) -> bool:
        """Whether it is about this cell, and about what happened to it."""
        named = ((mechanism, self.mechanism), (cell.target, self.target), (cell.recipe, self.recipe))
        return all(fnmatchcase(name, glob) for name, glob in named) and any(self.says in r for r in cell.reasons)


class Left(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mechanism that is not built, and why."""

    name: str
    source: str
    reason: str


class Facts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the page says that neither docstrings nor measurements hold: facts.toml."""

    left_out: tuple[Left, ...]
    promises: dict[str, str]
    """The lines of the family's checklist, by number."""


def explanations() -> list[Explanation]:
    """All of explained.toml."""
    table = msgspec.toml.decode((HERE / "explained.toml").read_bytes())
    return msgspec.convert(table["cells"], list[Explanation])


def explanation(mechanism: str, cell: Cell) -> Explanation | None:
    """The one for this cell, if there is one."""
    return next((e for e in explanations() if e.fits(mechanism, cell)), None)


def facts() -> Facts:
    """All of facts.toml."""
    return msgspec.toml.decode((HERE / "facts.toml").read_bytes(), type=Facts)


def promises() -> dict[str, list[str]]:
    """Names of the tests that show each line of the checklist, read from their marks."""
    found: dict[str, list[str]] = {line: [] for line in facts().promises}
    for file in sorted(TESTS.rglob("test_*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                for line in _marks(node):
                    found[line].append(f"{file.relative_to(TESTS)}::{node.name}")
    return found


def _marks(function: ast.FunctionDef) -> list[str]:
    return [
        str(mark.args[0].value)
        for mark in function.decorator_list
        if isinstance(mark, ast.Call)
        and isinstance(mark.func, ast.Attribute)
        and mark.func.attr == "promise"
        and isinstance(mark.args[0], ast.Constant)
    ]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A mechanism on the page."""

    name: str
    kind: str
    summary: str
    text: str
    grade: int
    row: Measured | None

    def cell(self, target: str, recipe: str) -> Cell | None:
        """Of its row."""
        cells = self.row.cells if self.row else ()
        return next((c for c in cells if (c.target, c.recipe) == (target, recipe)), None)


def entries() -> list[Entry]:
    """All of them, in the order of the matrix."""
    kept = mechanisms.KEPT.read()
    found = []
    for mechanism in subjects():
        text = inspect.getdoc(mechanism.module) or ""
        summary, _, rest = text.partition("\n\n")
        found.append(
            Entry(
                name=mechanism.name,
                kind=mechanism.kind,
                summary=" ".join(summary.split()),
                text=rest,
                grade=mechanism.grade,
                row=kept.get(str(mechanism)),
            )
        )
    return found


def page() -> str:
    """CATALOGUE.md."""
    listed = entries()
    measured = [e.row for e in listed if e.row]
    values: dict[str, Any] = {
        "entries": listed,
        "kinds": list(dict.fromkeys(e.kind for e in listed)),
        "grades": parts.GRADES,
        "targets": TARGETS,
        "recipes": RECIPES,
        "nearness": budgets.nearness(measured),
        "explanation": explanation,
        "explanations": explanations(),
        "facts": facts(),
        "promises": promises(),
        **rows.told(measured),
        "counts": _counts(listed),
        "scaling": scaling.read(),
        "passes": passes.text(),
    }
    return pages.render("catalogue.md.j2", {"figures": _figures, "verdict": _verdict}, **values)


def _counts(listed: list[Entry]) -> dict[str, int]:
    cells = [(f"{e.kind}.{e.name}", c) for e in listed if e.row for c in e.row.cells]
    passed = sum(c.verdict == "pass" for _, c in cells)
    return {
        "mechanisms": len(listed),
        "cells": len(cells),
        "passed": passed,
        "explained": sum(c.verdict != "pass" and explanation(n, c) is not None for n, c in cells),
    }


def _figures(cell: Cell | None) -> str:
    """SQNR, size, peak memory and latency, as one cell of a table."""
    if cell is None:
        return "-"
    if cell.sqnr_db is None or cell.bytes is None or cell.peak_bytes is None or cell.p50_us is None:
        return cell.verdict
    mark = " r" if cell.evidence == "reference executor" else ""
    share = "" if cell.delegated is None else f", {cell.delegated:.0%}"
    return (
        f"{cell.sqnr_db:.0f} dB{mark}, {cell.bytes / 1e3:.0f} kB, {cell.peak_bytes / 1e6:.1f} MB{mark}, "
        f"{cell.p50_us:.0f} us{mark}{share}"
    )


def _verdict(cell: Cell | None) -> str:
    return {"pass": "✓", None: "-"}.get(cell.verdict if cell else None, "e")


if __name__ == "__main__":
    PAGE.write_text(page())
