"""How near healthy files come to the bounds of the two budgets: what CATALOGUE.md shows of the measured rows.

The bounds in edgepass.judging.expected and those of the recipes are set by it.
"""

from collections.abc import Iterable

import msgspec

from runtime_tests.bench.mechanisms import Measured
from runtime_tests.matrix import CELLS, Noise


class Nearness(msgspec.Struct, frozen=True, kw_only=True):
    """The extremes among the files of a target under a recipe. dB are centred; None where no file has the figure."""

    target: str
    recipe: str
    files: int
    least_db: tuple[float, str] | None
    """Of a whole output, and the mechanism."""
    apart_db: tuple[float, float] | None
    """File less its recipe's graph: least and most."""
    ratio: float | None
    """Of noises, file over graph, of a whole output: the largest."""
    slice: tuple[float, float, str] | None
    """The ratio that is the largest part of its bound, the bound, and the mechanism."""
    worst: tuple[float, str] | None
    """What the worst slice keeps, and the mechanism."""


def nearness(rows: Iterable[Measured]) -> list[Nearness]:
    """For every target and recipe, in the order of the matrix."""
    found: dict[tuple[str, str], list[tuple[str, Noise]]] = {key: [] for key in CELLS}
    for row in rows:
        for cell in row.cells:
            if cell.noise:
                found[cell.target, cell.recipe].append((row.mechanism, cell.noise))
    return [_nearness(*key, files) for key, files in found.items()]


def _nearness(target: str, recipe: str, files: list[tuple[str, Noise]]) -> Nearness:
    apart = [n.file_db - n.expected_db for _, n in files if n.file_db is not None and n.expected_db is not None]
    slices = [
        (n.slice_ratio, n.slice_bound, mechanism)
        for mechanism, n in files
        if n.slice_ratio is not None and n.slice_bound is not None
    ]
    return Nearness(
        target=target,
        recipe=recipe,
        files=len(files),
        least_db=min(((n.file_db, mechanism) for mechanism, n in files if n.file_db is not None), default=None),
        apart_db=(min(apart), max(apart)) if apart else None,
        ratio=max((n.ratio for _, n in files if n.ratio is not None), default=None),
        slice=max(slices, key=lambda s: s[0] / s[1], default=None),
        worst=min(((n.worst_db, mechanism) for mechanism, n in files if n.worst_db is not None), default=None),
    )
