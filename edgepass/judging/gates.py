"""Gates: the bounds that the user set, or that a recipe sets for itself. The verdict is all of them."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace

from edgepass.errors import InputError, listed
from edgepass.judging.figures import duration, percent, size, three, times
from edgepass.judging.manifest import CONVERSION, ArtifactRecord, AtBatch, Audit, Conversion, Metric, Outcome
from edgepass.judging.parity import Parity

Forms = tuple[Callable[[float], str], Callable[[float], str]]
"""How a quantity is written: to be read, and exactly."""
SIZE: Forms = (size, "{:,.0f} bytes".format)
TIME: Forms = (duration, "{:,.10g} \N{MICRO SIGN}s".format)
SHARE: Forms = ("{:.1%}".format, "{:.10%}".format)
DECIBELS: Forms = ("{:.1f} dB".format, "{:.10f} dB".format)
NO_SIGNAL_DB = 0.01
"""Of centred SQNR, at and below which an error is as large as its signal. A constant has 0 dB at most."""
FLIPS = 0.001
"""Of the integers of a float32 file, those that may differ, and one more: two numbers may tie in float32."""
NOISE, FLOAT32 = "the noise of", "of this target's float32 file"
WEIGHT, OPERATION = (
    "the file holds another weight than the graph", "the file computes something else than the graph"
)  # fmt: skip
"""What a reason says where converter or runtime changed something: which of the ways of asking has found it."""
BATCH_DB = 0.5
"""Of centred SQNR: what rows may lose by going together, where they have less than a bound anyway."""


@dataclass(frozen=True, kw_only=True)
class Gates:
    """Bounds on one artifact; None is no bound. Bytes, dB, microseconds; drop and shares are fractions.

    `min_sqnr` is of real outputs, the mean over samples taken from the signal; `min_agreement` of integers and classes.
    """

    max_metric_drop: float | None = None
    min_sqnr: float | None = None
    min_agreement: float | None = None
    max_size: int | None = None
    max_peak_memory: int | None = None
    max_latency: float | None = None
    min_delegated: float | None = None
    min_coverage: float | None = None
    confident: bool = False
    """Hold the metric's drop to its bound at the bad end of its 95 % interval."""

    def over(self, defaults: "Gates") -> "Gates":
        """These bounds, with `defaults` where none is set."""
        mine = {k: v for k, v in asdict(self).items() if v is not None and v is not False}
        return Gates(**{**asdict(defaults), **mine})

    def set(self) -> dict[str, float]:
        """The bounds that are set, by name."""
        return {k: float(v) for k, v in asdict(self).items() if v is not None and v is not False}


def of(bounds: Mapping[str, float]) -> Gates:
    """The gates that `Gates.set` wrote down. Raises InputError for one that there is none of."""
    known = {f.name for f in fields(Gates)}
    if unknown := sorted(bounds.keys() - known):
        raise InputError(f"no gate {unknown[0]!r}; there is: {', '.join(sorted(known))}")
    confident = bool(bounds.get("confident", False))
    return Gates(**{k: v for k, v in bounds.items() if k != "confident"}, confident=confident)  # type: ignore[arg-type]


def judge(record: ArtifactRecord, gates: Gates) -> tuple[Outcome, list[str]]:
    """The verdict on one artifact, and a sentence for each gate that failed or could not be evaluated.

    Beside the bounds of `gates`, some are always in force: that no output or slice has an error as large as its signal,
    and those on the conversion.
    """
    delegates = record.delegated_flops is not None or record.runtime not in ("coreml", "onnx")
    parity, memory = record.parity, record.memory
    checks = [
        _metric(record.metric, gates),
        _signal(parity, gates.min_sqnr),
        _agreement(record, gates.min_agreement),
        _at_most("size", record.bytes, gates.max_size, SIZE),
        _at_most("peak memory", memory.peak_bytes if memory else None, gates.max_peak_memory, SIZE),
        _at_most("median latency", record.latency.p50_us if record.latency else None, gates.max_latency, TIME),
        # Core ML decides on the device and onnxruntime has no second backend: there is nothing to bound.
        _at_least("delegated share", record.delegated_flops, gates.min_delegated if delegates else None, SHARE),
        covered(record.audit, gates.min_coverage),
    ]
    always = [
        *(_lost(parity) if parity else []),
        *(_conversion(record.conversion) if record.conversion else []),
        *(f"{b.at}{text}" for b in record.batches for text in _at(b, record, gates)),
    ]
    failed = [text for outcome, text in checks if outcome == "fail"] + always
    unknown = [text for outcome, text in checks if outcome == "not-evaluated"]
    return ("fail" if failed else "not-evaluated" if unknown else "pass"), failed + unknown


def covered(audit: Audit | None, bound: float | None) -> tuple[Outcome, str]:
    """Coverage, and which weights are not as they were asked for."""
    outcome, text = _at_least("audited coverage", audit.coverage if audit else None, bound, SHARE)
    if audit is None or outcome != "fail":
        return outcome, text
    others = [f"{w.name} is {w.dtype}" for w in audit.weights if w.requested and w.dtype != w.requested]
    return outcome, f"{text}: {listed(others)}" if others else text


def worst(outcomes: list[Outcome]) -> Outcome:
    """fail over not-evaluated over pass; not-evaluated for none at all."""
    for outcome in ("fail", "not-evaluated", "pass"):
        if outcome in outcomes:
            return outcome
    return "not-evaluated"


def _metric(metric: Metric | None, gates: Gates) -> tuple[Outcome, str]:
    bound = gates.max_metric_drop
    if bound is None:
        return "pass", ""
    if metric is None:
        what = "give evaluation data with targets, and name the metric if need be"
        return (
            "not-evaluated",
            f"metric drop was not measured, so its bound of {percent(bound)} is not evaluated; {what}",
        )
    if gates.confident and metric.interval is None:
        return "not-evaluated", f"{metric}: its drop has no 95 % interval to be confident of; give more evaluation data"
    drop = metric.held(confident=gates.confident)
    if drop <= bound:  # written so that NaN fails
        return "pass", ""
    by = "worse" if drop > 1e3 else f"worse by {three(100 * drop)} %"  # a reference of zero has no shares
    sure = "at the bad end of its 95 % interval " if gates.confident else ""
    return "fail", f"{metric}: {sure}{by}, more than {percent(bound)}"


def _signal(parity: Parity | None, bound: float | None) -> tuple[Outcome, str]:
    """The output with the least centred SQNR, where there is one."""
    if bound is None or parity is None:
        return _at_least("SQNR", None, bound, DECIBELS)
    judged = [(o.whole, o.sqnr_db) for o in parity.outputs if o.whole]
    worst, raw_db = min(judged, key=lambda each: each[0].centred_db, default=(None, 0.0))
    if worst is not None:
        outcome, text = _at_least(f"loss: SQNR of {worst.name}", worst.centred_db, bound, DECIBELS)
        if outcome == "fail" and raw_db >= bound:
            text += f" ({raw_db:.1f} dB if its mean over the samples counted as signal)"
        return outcome, text
    why = "takes two evaluation samples or more" if parity.samples < 2 else "is not for outputs of integers"
    return "not-evaluated", f"SQNR {why}, so its bound of {bound:.1f} dB is not evaluated"


def _agreement(record: ArtifactRecord, bound: float | None) -> tuple[Outcome, str]:
    """The output of integers, or of the scores of classes, that agrees least, where there is one."""
    if bound is None or record.parity is None:
        return _at_least("agreement", None, bound, SHARE)
    shares = {o.name: o.agreement.share for o in record.parity.outputs if o.agreement}
    if record.ranking:
        shares[f"the classes of {record.ranking.name}"] = record.ranking.share
    if not shares:
        why = "agreement is for outputs of integers, or of classes where there are targets"
        return "not-evaluated", f"{why}, so its bound of {bound:.1%} is not evaluated"
    worst = min(shares, key=lambda name: shares[name])
    return _at_least(f"loss: agreement of {worst}", shares[worst], bound, SHARE)


def _lost(parity: Parity) -> list[str]:
    """Outputs and slices that are no numbers, or no better than a constant."""
    found: list[str] = []
    for output in parity.outputs:
        part = output.worst or output.whole
        if not output.is_number:
            name = part.name if part else output.name  # that of one sample, or of integers, has no figure of its own
            found.append(f"loss: {name} of the file holds NaN or infinity, and that of the float model does not")
        elif part and part.centred_db <= NO_SIGNAL_DB:
            found.append(f"loss: the error of {part.name} is as large as its signal ({part.centred_db:.1f} dB)")
        exact = next((a for a in (output.agreement, output.worst_agreement) if a and a.no_better), None)
        if exact:
            found.append(f"loss: {exact.name} agrees in {exact.share:.1%}, no more often than a constant would")
    return found


def _at(batch: AtBatch, record: ArtifactRecord, gates: Gates) -> list[str]:
    """What fails at one size of a batch that varies. Bounds are of all samples, and some rows may have less of them."""
    if batch.parity is None:
        return [batch.reason]
    here = replace(record, parity=batch.parity, ranking=None)
    checks = [
        _signal(batch.parity, None if _as_good(batch) else gates.min_sqnr),
        _agreement(here, None if _as_agreed(batch) else gates.min_agreement),
    ]
    return [
        *(text for outcome, text in checks if outcome == "fail"),
        *_lost(batch.parity),
        *(
            f"{CONVERSION}{NOISE} {e.name} is {times(e.ratio)} times that of the same rows by themselves, more "
            f"than {e.bound:.3g} times ({e.file_db:.1f} dB, {e.expected_db:.1f} dB by themselves)"
            for e in batch.apart
            if e.ratio > e.bound
        ),
        *(_conversion(batch.conversion) if batch.conversion else []),
    ]


def _as_good(batch: AtBatch) -> bool:
    """Whether the rows have the SQNR that they have alone."""
    both = [p.centred_db for p in (batch.parity, batch.alone) if p and p.centred_db is not None]
    return len(both) == 2 and both[0] >= both[1] - BATCH_DB


def _as_agreed(batch: AtBatch) -> bool:
    """Whether the rows agree as they do alone."""
    here, alone = ([o.agreement for o in p.outputs if o.agreement] if p else [] for p in (batch.parity, batch.alone))
    return bool(alone) and all(
        b.differing <= a.differing + 1 + FLIPS * a.elements for b, a in zip(here, alone, strict=True)
    )


def _conversion(found: Conversion) -> list[str]:
    failed = [
        *(
            f"{CONVERSION}{NOISE} {e.name} is {times(e.ratio)} times that of the recipe's own graph, more than "
            f"{e.bound:.3g} times ({e.file_db:.1f} dB, expected {e.expected_db:.1f} dB)"
            for e in found.excess
            if e.ratio > e.bound
        ),
        *(
            f"{CONVERSION}{WEIGHT}: {name}, {how}"
            for name, how in (found.weights.differing if found.weights else {}).items()
        ),
        *(
            f"{CONVERSION}{k.name} {FLOAT32} is {k.centred_db:.1f} dB, less than {k.bound_db:.1f} dB"
            for k in found.float32
            if k.centred_db < k.bound_db
        ),
        *(
            f"{CONVERSION}{a.name} {FLOAT32} agrees in {a.share:.1%} of {a.elements}"
            for a in found.float32_agreement
            if a.differing > 1 + FLIPS * a.elements
        ),
    ]
    return failed + [
        f"{CONVERSION}{OPERATION} at {name}: {how}"
        for name, how in (found.operations.differing if found.operations else {}).items()
    ]


def _at_most(what: str, value: float | None, bound: float | None, forms: Forms) -> tuple[Outcome, str]:
    if bound is None:
        return "pass", ""
    if value is None:
        return "not-evaluated", f"{what} was not measured, so its bound of {forms[0](bound)} is not evaluated"
    said, allowed = _apart(value, bound, forms)
    # Written so that NaN fails.
    return ("pass", "") if value <= bound else ("fail", f"{what} is {said}, more than {allowed}")


def _at_least(what: str, value: float | None, bound: float | None, forms: Forms) -> tuple[Outcome, str]:
    if bound is None:
        return "pass", ""
    if value is None:
        return "not-evaluated", f"{what} was not measured, so its bound of {forms[0](bound)} is not evaluated"
    said, asked = _apart(value, bound, forms)
    return ("pass", "") if value >= bound else ("fail", f"{what} is {said}, less than {asked}")


def _apart(value: float, bound: float, forms: Forms) -> tuple[str, str]:
    """A value and its bound in figures that can be read, or where those are the same, in all of theirs."""
    rounded, exact = forms
    said = rounded(value), rounded(bound)
    return said if said[0] != said[1] else (exact(value), exact(bound))
