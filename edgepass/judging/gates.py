"""Gates: the bounds that the user set, or that a recipe sets for itself. The verdict is all of them."""

from dataclasses import asdict, dataclass

from edgepass.judging.figures import percent, three
from edgepass.judging.manifest import ArtifactRecord, Metric, Outcome


@dataclass(frozen=True, kw_only=True)
class Gates:
    """Bounds on one artifact; None is no bound. Bytes, dB, microseconds; drop and shares are fractions."""

    max_metric_drop: float | None = None
    min_sqnr: float | None = None
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


def judge(record: ArtifactRecord, gates: Gates) -> tuple[Outcome, list[str]]:
    """The verdict on one artifact, and a sentence for each gate that failed or could not be evaluated."""
    delegates = record.delegated_flops is not None or record.runtime not in ("coreml", "onnx")
    parity, memory = record.parity, record.memory
    checks = [
        _metric(record.metric, gates),
        _at_least("SQNR", parity.sqnr_db if parity else None, gates.min_sqnr, "{:.1f} dB"),
        _at_most("size", record.bytes, gates.max_size, "{:,.0f} bytes"),
        _at_most("peak memory", memory.peak_bytes if memory else None, gates.max_peak_memory, "{:,.0f} bytes"),
        _at_most("median latency", record.latency.p50_us if record.latency else None, gates.max_latency, "{:,.0f} us"),
        # Core ML decides on the device and onnxruntime has no second backend: there is nothing to bound.
        _at_least("delegated share", record.delegated_flops, gates.min_delegated if delegates else None, "{:.1%}"),
        _at_least("audited coverage", record.audit.coverage if record.audit else None, gates.min_coverage, "{:.1%}"),
    ]
    failed = [text for outcome, text in checks if outcome == "fail"]
    unknown = [text for outcome, text in checks if outcome == "not-evaluated"]
    return ("fail" if failed else "not-evaluated" if unknown else "pass"), failed + unknown


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
    drop = max(metric.drop, metric.interval[1]) if gates.confident and metric.interval else metric.drop
    if drop <= bound:  # written so that NaN fails
        return "pass", ""
    by = "worse" if drop > 1e3 else f"worse by {three(100 * drop)} %"  # a reference of zero has no shares
    sure = " at the bad end of its 95 % interval" if gates.confident else ""
    return "fail", f"{metric}: {by}{sure}, more than {percent(bound)}"


def _at_most(what: str, value: float | None, bound: float | None, form: str) -> tuple[Outcome, str]:
    if bound is None:
        return "pass", ""
    if value is None:
        return "not-evaluated", f"{what} was not measured, so its bound of {form.format(bound)} is not evaluated"
    # Written so that NaN fails.
    return (
        ("pass", "") if value <= bound else ("fail", f"{what} is {form.format(value)}, more than {form.format(bound)}")
    )


def _at_least(what: str, value: float | None, bound: float | None, form: str) -> tuple[Outcome, str]:
    if bound is None:
        return "pass", ""
    if value is None:
        return "not-evaluated", f"{what} was not measured, so its bound of {form.format(bound)} is not evaluated"
    return (
        ("pass", "") if value >= bound else ("fail", f"{what} is {form.format(value)}, less than {form.format(bound)}")
    )
