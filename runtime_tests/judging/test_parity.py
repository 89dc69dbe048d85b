"""Parity and gates: three numbers, and what they decide."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgepass.judging import gates, parity
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import ArtifactRecord, Audit, Latency, Memory, Metric
from edgepass.judging.parity import OutputParity, Parity, Slice, compare

finite = st.floats(-1e6, 1e6, width=32)


@given(arrays(np.float32, st.tuples(st.integers(1, 7), st.integers(1, 13)), elements=finite))
def test_equal_outputs_are_as_good_as_it_gets(x: np.ndarray) -> None:
    p = compare(x, x)
    assert (p.max_abs, p.sqnr_db, p.cosine, p.samples) == (0.0, parity.SQNR_CAP_DB, pytest.approx(1.0), len(x))


@given(arrays(np.float32, (3, 5), elements=st.floats(0.125, 100, width=32)), st.floats(0.001, 0.5))
def test_a_relative_error_e_everywhere_is_minus_20_log_e(x: np.ndarray, e: float) -> None:
    wide = x.astype(np.float64)
    assert compare(wide, wide * (1 + e)).sqnr_db == pytest.approx(-20 * np.log10(e), abs=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_number_is_the_worst_parity(bad: float) -> None:
    x = np.ones((63, 2))
    y = x.copy()
    y[40, 1] = bad
    p = compare(x, y)
    assert p.sqnr_db == -parity.SQNR_CAP_DB
    assert p.max_abs > 1e300
    assert np.isfinite(p.max_abs), "infinity does not survive JSON"


def test_shapes_must_be_equal() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 3\), the reference's have \(3, 2\)"):
        compare(np.ones((3, 2)), np.ones((2, 3)))


def parity_of(db: float) -> Parity:
    """Of eight samples of one output whose centred SQNR is `db`; the raw one is far higher."""
    whole = Slice(name="output_0", centred_db=db, ceiling_db=140.0, scale="own spread")
    output = OutputParity(name="output_0", max_abs=0.1, sqnr_db=90.0, cosine=0.99, whole=whole, worst=whole)
    return Parity(max_abs=0.1, sqnr_db=90.0, cosine=0.99, samples=8, centred_db=db, outputs=[output])


def record(**changes: object) -> ArtifactRecord:
    fields: dict[str, object] = {
        "target": "tflite",
        "file": "m.tflite",
        "bytes": 1000,
        "content_sha256": "0",
        "recipe": "fp32",
        "verdict": "pass",
        "reasons": [],
        "runtime": "tflite",
        "parity": parity_of(30.0),
        "metric": Metric(name="mse", reference=1.0, value=1.02, higher_is_better=False, samples=8),
        "memory": Memory(planned_bytes=10, peak_bytes=5000, baseline_bytes=9000, evidence="host runtime"),
        "latency": Latency(p50_us=100.0, p95_us=120.0, threads=1, runs=9, evidence="host runtime"),
        "delegated_flops": 0.9,
        "audit": Audit(requested="fp32", weights=[], coverage=0.5),
    }
    return ArtifactRecord(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tight", "loose", "sentence"),
    [
        (
            Gates(max_metric_drop=0.01),
            Gates(max_metric_drop=0.03),
            "mse 1 → 1.02, lower is better: worse by 2 %, more than 1 %",
        ),
        (
            Gates(min_sqnr=31),
            Gates(min_sqnr=30),
            "loss: SQNR of output_0 is 30.0 dB, less than 31.0 dB "
            "(90.0 dB if its mean over the samples counted as signal)",
        ),
        (Gates(max_size=999), Gates(max_size=1000), "size is 1 kB, more than 999 B"),
        (Gates(max_peak_memory=4999), Gates(max_peak_memory=5000), "peak memory is 5,000 bytes, more than 4,999 bytes"),
        (
            Gates(max_latency=99),
            Gates(max_latency=100),
            "median latency is 100 \N{MICRO SIGN}s, more than 99 \N{MICRO SIGN}s",
        ),
        (Gates(min_delegated=0.95), Gates(min_delegated=0.9), "delegated share is 90.0%, less than 95.0%"),
        (Gates(min_coverage=1), Gates(min_coverage=0.5), "audited coverage is 50.0%, less than 100.0%"),
    ],
)
def test_each_gate_holds_its_bound(tight: Gates, loose: Gates, sentence: str) -> None:
    assert gates.judge(record(), tight) == ("fail", [sentence])
    assert gates.judge(record(), loose) == ("pass", [])


@pytest.mark.parametrize(
    ("bound", "missing"),
    [
        (Gates(max_metric_drop=0.1), "metric"),
        (Gates(min_sqnr=1), "parity"),
        (Gates(max_peak_memory=1), "memory"),
        (Gates(max_latency=1), "latency"),
        (Gates(min_delegated=0.1), "delegated_flops"),
        (Gates(min_coverage=0.1), "audit"),
    ],
)
def test_what_was_not_measured_is_never_a_pass(bound: Gates, missing: str) -> None:
    outcome, reasons = gates.judge(record(**{missing: None}), bound)
    assert outcome == "not-evaluated"
    assert "not evaluated" in reasons[0]


def test_nan_fails_every_gate() -> None:
    nan = Metric(name="mse", reference=1.0, value=float("nan"), higher_is_better=False, samples=1)
    assert gates.judge(record(metric=nan), Gates(max_metric_drop=0.5))[0] == "fail"


def test_core_ml_has_no_delegated_share_to_bound() -> None:
    assert gates.judge(record(runtime="coreml", delegated_flops=None), Gates(min_delegated=0.9)) == ("pass", [])


def test_a_drop_is_in_the_worse_direction() -> None:
    lower = Metric(name="mse", reference=2.0, value=1.0, higher_is_better=False, samples=1)
    higher = Metric(name="accuracy", reference=0.8, value=0.6, higher_is_better=True, samples=1)
    assert lower.drop == pytest.approx(-0.5)
    assert higher.drop == pytest.approx(0.25)


def test_the_users_bounds_come_before_the_recipes() -> None:
    assert Gates(min_sqnr=5).over(Gates(min_sqnr=20, max_size=3)) == Gates(min_sqnr=5, max_size=3)


@given(st.lists(st.sampled_from(["pass", "fail", "not-evaluated"]), min_size=1))
def test_the_verdict_is_the_worst(outcomes: list[str]) -> None:
    worst = gates.worst(outcomes)  # type: ignore[arg-type]
    assert worst == ("fail" if "fail" in outcomes else "not-evaluated" if "not-evaluated" in outcomes else "pass")
