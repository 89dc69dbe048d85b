"""An answer with the table that bears it out, and the files in groups, one for each of its rows."""

from dataclasses import dataclass, field
from typing import Literal

from edgepass.judging.manifest import ArtifactRecord, Manifest


@dataclass(frozen=True, kw_only=True)
class Row:
    """Cells of a small table, the first of which names the row; `bad` where a bound is not kept."""

    cells: tuple[str, ...]
    bad: bool = False


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A headline, and a small table that bears it out."""

    headline: str
    columns: tuple[str, ...] = ()
    rows: list[Row] = field(default_factory=list)
    detail: str = ""


def grouped(manifest: Manifest, what: Literal["target", "recipe"]) -> dict[str, list[ArtifactRecord]]:
    """The records by their target or recipe, in order."""
    groups: dict[str, list[ArtifactRecord]] = {}
    for record in manifest.artifacts:
        groups.setdefault(getattr(record, what), []).append(record)
    return groups
