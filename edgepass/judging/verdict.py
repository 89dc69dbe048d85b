"""Judging: one written file, run from disk in a process of its own, as a record with a verdict."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgepass.errors import ArtifactError, DamagedError, DeviceOnlyError, EdgepassError, InputError
from edgepass.judging import batches, budgets, expected, files, gates, interface, parity, ranking
from edgepass.judging.candidate import Candidate, Standard, Yardstick
from edgepass.judging.comparison import by_row
from edgepass.judging.figures import three
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import ArtifactRecord, AtBatch, Conversion, Histogram, Latency, Memory, Metric, Ranking
from edgepass.judging.metrics._reading import class_axes
from edgepass.quantize.audit import audit
from edgepass.quantize.recipe import Recipe
from edgepass.runtimes import Array, Contents, _child
from edgepass.runtimes._child import Measurement

BINS, DECADES = 24, 6
"""Of the histogram of errors, which grow from bin to bin: what matters of an error is its magnitude."""


def measure_float(path: Path, runtime: str, standard: Standard, method: str = "") -> Yardstick:
    """Memory and latency of the float32 file, or of a method of it, and what it keeps of the model."""
    rows = standard.rows
    measured = _child.run(
        runtime,
        path,
        [x[rows] for x in standard.samples.inputs],
        method=method,
        state=standard.state,
        sequence=standard.samples.length,
        keeps=standard.keeps,
        threads=standard.threads,
        batches=[batch.samples.inputs for batch in standard.batches],
    )
    reference = [r[rows] for r in standard.reference]
    outputs = interface.aligned(measured.outputs, reference, path)
    return Yardstick(
        bytes=files.size(path),
        peak_bytes=measured.peak_bytes,
        p50_us=measured.latency.p50_us,
        p95_us=measured.latency.p95_us,
        kept=expected.kept(reference, outputs, standard.outputs) if len(rows) > 1 else (),
        agreed=expected.agreed(reference, outputs, standard.outputs),
        batches=[batches.kept(b, given, path) for b, given in zip(standard.batches, measured.batches, strict=True)],
    )


def judge(
    candidate: Candidate, standard: Standard, bounds: Gates, yardstick: Yardstick | str | None = None
) -> tuple[ArtifactRecord, list[Array]]:
    """The record of one file, and its outputs on the evaluation samples.

    `bounds` are the user's; the recipe's own hold where those say nothing and where there is something to measure.
    `yardstick`: a sentence where the target fails at the float32 model, for which all its other files fail.
    A file that its runtime cannot survive is a failed record, not an error: the others are still judged. Of one that
    nothing here can run, what it holds is judged, and its bounds on outputs are not evaluated.
    """
    if isinstance(yardstick, str):
        record, outputs = judge(candidate, standard, bounds)
        # A float32 file is its own yardstick, and has said itself why it fails.
        if budgets.scheme_of(candidate) != "float32":
            record = replace(record, verdict="fail", reasons=[yardstick, *record.reasons])
        return record, outputs
    standard = standard.keeping if candidate.keeps else standard
    path = candidate.path
    recipe = candidate.recipe.name if candidate.recipe else "unknown"
    record = ArtifactRecord(
        target=candidate.target,
        file=path.name,
        bytes=files.size(path),
        float_bytes=yardstick.bytes if yardstick else None,
        content_sha256="",
        recipe=recipe,
        verdict="fail",
        reasons=[],
        runtime=candidate.runtime,
        fallbacks=list(candidate.fallbacks),
        notes=list(candidate.notes),
        keeps_state=candidate.keeps,
        method=candidate.method,
    )
    try:
        # One child does both: importing a runtime can take longer than all the rest.
        tensors = candidate.graph.tensors(standard.samples) if candidate.graph else None
        measured = _child.run(
            candidate.runtime,
            path,
            standard.samples.inputs,
            method=candidate.method,
            state=standard.state,
            sequence=standard.samples.length,
            keeps=standard.keeps,
            threads=standard.threads,
            contents=True,
            scales=tensors.scales if tensors else (),
            tensors=tensors.values if tensors else (),
            arguments=tensors.arguments if tensors else (),
            batches=[batch.samples.inputs for batch in standard.batches],
        )
        contents = measured.contents
        assert contents is not None
        seen = interface.outputs(contents.outputs, measured.outputs, standard.reference)
        taken = interface.inputs(contents.inputs, standard.arguments)
        record = replace(record, inputs=taken, outputs=seen, **_bytes(path, contents))
        outputs = interface.aligned(measured.outputs, standard.reference, path)
    except DeviceOnlyError as error:
        return _unrun(record, candidate, bounds, said(error, path, fresh=candidate.fresh)), []
    except ArtifactError as error:
        reasons = [said(error, path, fresh=candidate.fresh)]
        return replace(record, content_sha256=record.content_sha256 or files.sha256(path), reasons=reasons), []
    metric, unmeasured = _metric(standard, outputs)
    changed = budgets.conversion(candidate, standard, outputs, yardstick, contents)
    varied = _batches(candidate, standard, outputs, measured, yardstick)
    record = replace(
        _holding(record, contents, candidate),
        parity=parity.of(standard.reference, outputs, standard.outputs),
        ranking=_ranking(standard, outputs),
        loss=budgets.loss(candidate, standard, outputs),
        conversion=budgets.with_operations(changed, candidate.graph, tensors, measured),
        metric=metric,
        memory=Memory(
            planned_bytes=contents.planned_bytes,
            peak_bytes=measured.peak_bytes,
            baseline_bytes=yardstick.peak_bytes if yardstick else None,
            evidence=measured.latency.evidence,
        ),
        latency=replace(measured.latency, baseline_us=yardstick.p50_us if yardstick else None),
        errors=histogram(standard.reference, outputs),
        batches=varied,
        notes=[
            *candidate.notes,
            *contents.notes,
            *unmeasured,
            *batches.notes(varied),
            *interface.notes(taken),
            *interface.notes(seen),
            *_slower(measured.latency, yardstick, candidate.recipe),
        ],
    )
    applied = applicable(record, bounds, candidate.recipe)
    verdict, reasons = gates.judge(record, applied)
    return replace(record, verdict=verdict, reasons=reasons, bounds=applied.set()), outputs


def _batches(
    candidate: Candidate,
    standard: Standard,
    outputs: list[Array],
    measured: Measurement,
    yardstick: Yardstick | None,
) -> list[AtBatch]:
    """The file at each other size of its batch."""
    floats: Sequence[AtBatch | None] = yardstick.batches if yardstick else [None] * len(standard.batches)
    return [
        batches.compare(
            batch,
            given,
            outputs,
            candidate.expected.outputs(batch.samples, (batch.axis, batch.size))
            if candidate.expected and not batch.alone
            else [],
            of_float,
            candidate.path,
            budgets.scheme_of(candidate),
        )
        for batch, given, of_float in zip(standard.batches, measured.batches, floats, strict=True)
    ]


def unwritten(target: str, runtime: str, recipe: str, why: str, method: str = "") -> ArtifactRecord:
    """The record of a file that was asked for and is not there: its target cannot, or failed.

    method: the one that it was to be of, where it was to be of one of several.
    """
    return ArtifactRecord(
        target=target,
        file="",
        bytes=0,
        content_sha256="",
        recipe=recipe,
        verdict="fail",
        reasons=[why],
        runtime=runtime,
        method=method,
    )


def unjudged(candidate: Candidate, why: str) -> ArtifactRecord:
    """The record of a file whose runtime is not installed here: what it holds is not known, not even its hash."""
    return ArtifactRecord(
        target=candidate.target,
        file=candidate.path.name,
        bytes=files.size(candidate.path),
        content_sha256="",
        recipe=candidate.recipe.name if candidate.recipe else "unknown",
        verdict="not-evaluated",
        reasons=[f"not judged here: {why}"],
        runtime=candidate.runtime,
        fallbacks=list(candidate.fallbacks),
        notes=list(candidate.notes),
        method=candidate.method,
    )


def _unrun(record: ArtifactRecord, candidate: Candidate, bounds: Gates, why: str) -> ArtifactRecord:
    """The record of a file that only a device can run: judged by what it holds; at best not evaluated."""
    contents = _child.inspect(candidate.runtime, candidate.path, method=candidate.method, values=True)
    values = budgets.weight_values(candidate, contents)
    record = replace(
        _holding(record, contents, candidate),
        conversion=Conversion(weights=values) if values else None,
        **_bytes(candidate.path, contents),
        memory=Memory(planned_bytes=contents.planned_bytes, peak_bytes=None, baseline_bytes=None, evidence="predicted"),
        notes=[*candidate.notes, *contents.notes],
    )
    applied = applicable(record, bounds, candidate.recipe)
    verdict, reasons = gates.judge(record, applied)
    outside = ", ".join(dict.fromkeys(fallback.op for fallback in record.fallbacks))
    why = f"not run here: {why}{outside and '; outside its delegates: '}{outside}"
    reasons = [why, *reasons]
    return replace(record, verdict=gates.worst([verdict, "not-evaluated"]), reasons=reasons, bounds=applied.set())


def _bytes(path: Path, contents: Contents) -> dict[str, Any]:
    """Size and hash, of every file that the model consists of, and which these are."""
    beside = contents.beside
    hashed = contents.content_sha256 or files.sha256(path, beside)
    return {"beside": beside, "bytes": files.size(path, beside), "content_sha256": hashed}


def _holding(record: ArtifactRecord, contents: Contents, candidate: Candidate) -> ArtifactRecord:
    """The record with what was read from the file."""
    return replace(
        record,
        delegated_flops=contents.delegated_flops,
        fallbacks=list(candidate.fallbacks) or contents.fallbacks,
        audit=audit(record.recipe, candidate.requested, contents.weights),
    )


def said(error: EdgepassError, path: Path, *, fresh: bool) -> str:
    """Its words, without the folder that the file is in: a staging folder is gone when they are read.

    Of a file just written, without the advice to write it again.
    """
    words = error.fact if fresh and isinstance(error, DamagedError) else str(error)
    for folder in (path.resolve().parent, path.parent):  # a child is given the whole path
        words = words.replace(f"{folder}{os.sep}", "")
    return words


def applicable(record: ArtifactRecord, bounds: Gates, recipe: Recipe | None) -> Gates:
    """The user's bounds, over those of the recipe's that can be evaluated: a default asks for no targets.

    It does ask for two samples, for with one nobody knows the loss, and never for more than float32 resolves of the
    outputs, or than so few integers can tell.
    """
    defaults = recipe.bounds if recipe else UNKNOWN
    if record.parity is not None:
        defaults = replace(
            defaults,
            min_sqnr=_reachable(record.parity, defaults.min_sqnr),
            min_agreement=_tellable(record, defaults.min_agreement),
        )
    if record.metric is None:
        defaults = replace(defaults, max_metric_drop=None)
    if record.audit is None or record.audit.coverage is None:
        defaults = replace(defaults, min_coverage=None)
    return bounds.over(defaults)


UNKNOWN = Gates(min_sqnr=10.0, min_agreement=0.9)
"""The bounds of the coarsest recipe, for a file that nobody says the recipe of."""


def _reachable(found: parity.Parity, bound: float | None) -> float | None:
    """`bound`, or what float32 resolves of the output that it resolves least of; None where all are integers."""
    if bound is None or all(output.agreement for output in found.outputs):
        return None
    return min([bound, *(parity.reachable(bound, o.whole.ceiling_db) for o in found.outputs if o.whole)])


def _tellable(record: ArtifactRecord, bound: float | None) -> float | None:
    """`bound`, less two standard deviations of a share of so few answers; None where there are none to agree on."""
    counts = [o.agreement.elements for o in record.parity.outputs if o.agreement] if record.parity else []
    counts += [record.ranking.answers] if record.ranking else []
    if bound is None or not any(counts):
        return None
    return max(0.0, bound - 2 * float(np.sqrt(bound * (1 - bound) / min(filter(None, counts)))))


def histogram(reference: list[Array], outputs: list[Array]) -> Histogram | None:
    """Absolute errors of all outputs, by magnitude; None when any is not finite."""
    errors = np.concatenate([
        np.abs(o.astype(np.float64) - r.astype(np.float64)).ravel() for r, o in zip(reference, outputs, strict=True)
    ])
    if not np.isfinite(errors).all():
        return None
    most = float(errors.max(initial=0.0)) or 1.0
    grown = np.geomspace(most / 10**DECADES, most, BINS) if most > np.finfo(np.float32).tiny else ()
    edges = np.concatenate([[0.0], grown]) if len(grown) else np.linspace(0.0, most, BINS + 1)
    counts, _ = np.histogram(errors, bins=edges)
    return Histogram(edges=edges.tolist(), counts=counts.tolist())


def _metric(standard: Standard, outputs: list[Array]) -> tuple[Metric | None, list[str]]:
    """The metric, and a note where it cannot be had from what the file gives though it can from the float model's."""
    comparison, _ = standard.comparison
    if comparison is None:
        return None, []
    try:
        return comparison.metric(standard.own(outputs)), []
    except InputError as error:
        return comparison.worst, [str(error)]


def _ranking(standard: Standard, outputs: list[Array]) -> Ranking | None:
    """Of the output that the metric is of, where its targets are class numbers and leave one axis for the classes."""
    comparison, _ = standard.comparison
    if comparison is None or comparison.score.output == "all":
        return None
    number, truth = comparison.score.output, comparison.truth
    if truth.targets.dtype.kind not in "iu" or parity.is_exact(truth.reference):
        return None
    axes = class_axes(truth.reference, truth.targets)
    if len(axes) != 1:
        return None
    actual = by_row(outputs[number], comparison.batch)
    return ranking.compare(truth.reference, actual, axes[0], standard.outputs[number])


def _slower(latency: Latency, yardstick: Yardstick | None, recipe: Recipe | None) -> list[str]:
    """Said where a file's median is above what 95% of the float model's runs take: anything less is noise."""
    comparable = yardstick is not None and latency.evidence != "reference executor"
    if yardstick is None or not comparable or latency.p50_us <= yardstick.p95_us:
        return []
    if recipe is None or recipe.scheme == "float32":
        return []
    ratio = three(latency.p50_us / yardstick.p50_us)
    return [f"{recipe.name} takes {ratio} times as long here as float32 in the same runtime ({latency.evidence})"]
