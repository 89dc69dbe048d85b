"""Auditing: in which number format a file holds each weight, from its bytes alone; no model is loaded, nothing is run.

Asked for is what the manifest beside a file says was asked for. A file that comes alone is held against a recipe: every
weight that an operation reads as one, by the recipe's own format.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from edgepass.describing.inspection import methods, number_format, short
from edgepass.errors import InputError
from edgepass.judging import files, gates, manifest
from edgepass.judging.figures import percent
from edgepass.judging.manifest import ArtifactRecord, Audit, Outcome, Weight
from edgepass.quantize import recipe as recipes
from edgepass.quantize.audit import Requested, audit
from edgepass.runtimes import _child


@dataclass(frozen=True, kw_only=True)
class Format:
    """A number format of a file: how many weights it has, and their share of all elements, 0.0-1.0."""

    dtype: str
    granularity: str | None
    weights: int
    share: float


@dataclass(frozen=True, kw_only=True)
class Audited:
    """One file, or a method of one that has several.

    `verdict` is not-evaluated where nothing was asked for, and so is `audit.coverage` None.
    """

    file: str
    method: str
    formats: list[Format]
    audit: Audit
    verdict: Outcome
    reasons: list[str]


def audits(path: Path, recipe: str | None = None, method: str = "") -> list[Audited]:
    """The weights of every file of an output folder, or of one file, beside what was asked for.

    method: the only one that is asked for, of files that have several; without it each is told of by itself.
    recipe: of a file that no manifest is beside; or another than the manifest says. Raises InputError where a folder
    holds no manifest, for a file of no known kind and for an unknown recipe; ArtifactError for a broken file.
    """
    if path.is_dir() and path.suffix != ".mlpackage":
        made = manifest.read(path)
        records = [record for record in made.artifacts if record.file and method in ("", record.method)]
        return [_audited(path / record.file, record.method, record, recipe) for record in records]
    return [_audited(path, name, _record(path, name), recipe) for name in methods(path, method)]


def _record(file: Path, method: str) -> ArtifactRecord | None:
    try:
        artifacts = manifest.read(file.parent).artifacts
    except InputError:  # there is none, or another's
        return None
    ours = [record for record in artifacts if record.file == file.name]
    return next((record for record in ours if method in ("", record.method)), None)


def _audited(file: Path, method: str, record: ArtifactRecord | None, recipe: str | None) -> Audited:
    weights = _child.inspect(files.runtime_of(file), file, method=method).weights
    if recipe is not None:
        chosen = recipes.read(recipe)
        name, wanted = chosen.name, [_asked(weight, chosen.weights) for weight in _read_as_weights(weights)]
    elif record is not None and record.audit is not None:
        name, wanted = record.recipe, [_again(w) for w in record.audit.weights if w.requested or w.reason]
    else:
        name, wanted = "", []
    found = audit(name, wanted, weights)
    outcome, reason = gates.covered(found, 1.0) if wanted else ("not-evaluated", "")
    return Audited(
        file=file.name,
        method=method,
        formats=_formats(weights),
        audit=found,
        verdict=outcome,
        reasons=[reason] if reason else [],
    )


def _read_as_weights(weights: Sequence[Weight]) -> list[Weight]:
    """Matrices and kernels that an operation reads as its weight; of two dimensions or more where no file says so."""
    large = [weight for weight in weights if sum(n > 1 for n in weight.shape) >= 2]
    return [weight for weight in large if weight.layout] or large


def _asked(weight: Weight, dtype: str) -> Requested:
    return Requested(name=weight.name, shape=weight.shape, dtype=dtype)


def _again(weight: Weight) -> Requested:
    return Requested(name=weight.name, shape=weight.shape, dtype=weight.requested or "", reason=weight.reason or "")


def _formats(weights: Sequence[Weight]) -> list[Format]:
    total = sum(prod(weight.shape) for weight in weights)
    kinds = dict.fromkeys((weight.dtype, weight.granularity) for weight in weights)
    formats: list[Format] = []
    for dtype, granularity in kinds:
        of = [prod(w.shape) for w in weights if (w.dtype, w.granularity) == (dtype, granularity)]
        share = sum(of) / total if total else 0.0
        formats.append(Format(dtype=dtype, granularity=granularity, weights=len(of), share=share))
    return sorted(formats, key=lambda kind: -kind.share)


def table(found: Audited) -> Table:
    """The formats of one file, then each weight that is not as it was asked for."""
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    view.add_column("weights", overflow="fold")
    view.add_column("format")
    view.add_column("elements", justify="right")
    for kind in found.formats:
        counted = f"{kind.weights} weight{'s' * (kind.weights != 1)}"
        view.add_row(counted, number_format(kind.dtype, kind.granularity), percent(kind.share))
    for weight in found.audit.weights:
        if weight.reason or (weight.requested and weight.dtype != weight.requested):
            why = weight.reason or f"asked for: {weight.requested}"
            view.add_row(Text(short(weight.name)), Text(f"{weight.dtype} ({why})"), "")
    return view


def lines(found: Audited) -> list[str]:
    """The verdict on one file in a sentence."""
    name = f"{found.file} {found.method}".rstrip()
    if found.audit.coverage is None:
        return [f"{name}: nothing was asked for that could be held against it; give --recipe"]
    return [f"{name}: {found.verdict}: {reason}" for reason in found.reasons] or [
        f"{name}: pass: {percent(found.audit.coverage)} of the elements are as {found.audit.requested} asks"
    ]
