"""What converters and runtimes changed: noise beyond the graph's, float32 files, weights, operations and batches."""

from collections.abc import Sequence

from edgepass.errors import listed
from edgepass.judging.figures import decibels, three, times
from edgepass.judging.manifest import ArtifactRecord, Manifest, Operations, WeightValues
from edgepass.judging.parity import SQNR_CAP_DB
from edgepass.report.finding import Finding, Row, grouped


def changed(manifest: Manifest) -> Finding:
    """What converters and runtimes changed beyond what the recipe's own graph does, and at which batches."""
    rows, most, least = [], 0.0, 0.0
    for target, records in grouped(manifest, "target").items():
        asked = [a.conversion for a in records if a.conversion]
        excess = max((e for c in asked for e in c.excess), key=lambda e: e.ratio / e.bound, default=None)
        kept = min((k for c in asked for k in c.float32), key=lambda k: k.centred_db - k.bound_db, default=None)
        weights = [c.weights for c in asked if c.weights]
        parts = [c.operations for c in asked if c.operations and c.operations.compared]
        sizes = sorted({(b.axis, b.size, b.at) for a in records for b in a.batches})
        if excess is None and kept is None and not weights and not sizes:
            continue
        wrong = [_size(axis, size) for axis, size, at in sizes if any(_fails_at(a, at) for a in records)]
        other = _others(weights) + _others(parts)
        noisy = excess is not None and excess.ratio > excess.bound
        bad = bool(other or wrong or noisy or (kept and kept.centred_db < kept.bound_db))
        most = max(most, excess.bound) if excess else most
        least = max(least, kept.bound_db) if kept else least
        cells = (
            target,
            f"{times(excess.ratio)} \N{MULTIPLICATION SIGN}" if excess else "-",
            "-" if kept is None else "equal" if kept.centred_db >= SQNR_CAP_DB else decibels(kept.centred_db),
            f"{_others(weights)} differ" if _others(weights) else "equal" if any(w.compared for w in weights) else "-",
        )
        rows.append(Row(cells=cells, bad=bad))
    if not rows:
        return Finding(headline="Not known", detail="It was not asked of these files.")
    failed = [row.cells[0] for row in rows if row.bad]
    known = any(cell != "-" for row in rows for cell in row.cells[1:])
    said = [
        f"Noise: of a file over that of the recipe's own graph, at most {three(most)} times." if most else "",
        f"Float32: the target's file in float32 against the model, at least {decibels(least)}." if least else "",
        f"Weights: those in the file against the graph's{_uncompared(manifest)}." if known else "",
        _operations(manifest),
        _batches(manifest),
    ]
    right = "Nothing beyond rounding" if known else "Not known"
    return Finding(
        headline=f"Too much for {' and '.join(failed)}" if failed else right,
        columns=("target", "noise", "float32", "weights"),
        rows=rows,
        detail=" ".join(filter(None, said)),
    )


def _uncompared(manifest: Manifest) -> str:
    """How many weights of files were not found, or not read."""
    found = [a.conversion.weights for a in manifest.artifacts if a.conversion and a.conversion.weights]
    missed = sum(len(each.uncompared) for each in found)
    return f"; {missed:,} of {missed + sum(each.compared for each in found):,} were not compared" if missed else ""


def _operations(manifest: Manifest) -> str:
    """How many parts of files were given the graph's own integers, and how many were not the graph's."""
    found = [a.conversion.operations for a in manifest.artifacts if a.conversion and a.conversion.operations]
    compared, other = sum(each.compared for each in found), _others(found)
    answer = f"{other} differ" if other else "equal"
    told = [f"Operations: {compared:,} parts of files, given the graph's own integers: {answer}."] if compared else []
    told += dict.fromkeys(f"Operations were not compared: {each.note}." for each in found if each.note)
    return " ".join(told)


def _batches(manifest: Manifest) -> str:
    """How many rows were handed over at a time, and what fails at which."""
    judged = [(a, b) for a in manifest.artifacts for b in a.batches]
    own = {manifest.model.batch} if manifest.model.batch else set()
    sizes = sorted(own | {b.size for _, b in judged if not b.axis})
    wrong = [f"{a.target} {a.recipe} at {_size(b.axis, b.size)}" for a, b in judged if _fails_at(a, b.at)]
    rows = [f"Batches of {listed([str(size) for size in sizes], 4)} rows"] if len(sizes) > 1 else []
    for axis in sorted({b.axis for _, b in judged if b.axis}):
        lengths = sorted({b.size for _, b in judged if b.axis == axis})
        rows.append(f"{'sizes' if rows else 'Sizes'} {listed([str(n) for n in lengths], 4)} of dimension {axis}")
    if not rows:
        return ""
    fails = f"{listed(wrong)} is not right" if wrong else "all hold"
    return f"{' and '.join(rows)} were judged: {fails}."


def _size(axis: int, size: int) -> str:
    return f"{size} along dimension {axis}" if axis else str(size)


def _fails_at(record: ArtifactRecord, at: str) -> bool:
    return any(reason.startswith(at) for reason in record.reasons)


def _others(found: Sequence[WeightValues | Operations]) -> int:
    return sum(len(each.differing) for each in found)
