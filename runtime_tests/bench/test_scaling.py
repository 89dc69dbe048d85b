"""What was measured of length and of passes bears out what is claimed, and nothing more is claimed."""

from itertools import pairwise

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from edgepass import catalog
from runtime_tests.bench import passes, scaling
from runtime_tests.bench.scaling import LENGTHS, RIVAL, Kept, Point, Summary

LINEAR = [
    "local_attention", "pooling", "convolution_affinity", "linear_attention", "split_attention", "gated_chunks",
    "legendre_memory", "selective_scan",
]  # fmt: skip
"""Mixers whose work grows with the length and not with its square."""
FAST = [mixer for mixer in LINEAR if mixer != "selective_scan"]
"""Those that are faster than the transformer for it; what a scan moves through memory is not counted as work."""


def work(mixer: str, length: int) -> int:
    """FLOPs of one pass, as torch counts them."""
    module = scaling.model(mixer, length)
    # The counter does not see the fused attention of CPUs.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        module(torch.zeros(1, length, scaling.DIM))
    return int(counter.get_total_flops())


@pytest.mark.promise("P1")
@pytest.mark.parametrize("mixer", LINEAR)
def test_work_of_a_linear_mixer_doubles_with_the_length(mixer: str) -> None:
    assert work(mixer, 2048) <= 2.3 * work(mixer, 1024), "a square would be four times"


@pytest.fixture(scope="module")
def kept() -> Summary:
    found = scaling.read()
    if found is None or {m for m, _ in found.points} != {RIVAL, *catalog.names("mixers")}:
        pytest.skip("not all mixers are measured; python -m runtime_tests.bench.scaling does it, in about ten minutes")
    return found


def test_every_mixer_and_the_transformer_were_measured_at_every_length(kept: Summary) -> None:
    assert set(kept.points) == {(m, n) for m in [RIVAL, *catalog.names("mixers")] for n in LENGTHS}
    assert all(p.reason or (p.p50_us and p.peak_bytes) for p in kept.kept.points)


@pytest.mark.promise("P1")
@pytest.mark.parametrize("mixer", FAST)
def test_a_linear_mixer_was_faster_than_the_transformer_at_the_longest(mixer: str, kept: Summary) -> None:
    assert kept.verdict(mixer) == "true", kept.text


@pytest.mark.promise("P3")
@pytest.mark.parametrize("mixer", LINEAR)
def test_a_linear_mixer_took_less_memory_than_the_transformer(mixer: str, kept: Summary) -> None:
    for length in (2048, 8192):
        ours, rival = kept.points[mixer, length].peak_bytes, kept.points[RIVAL, length].peak_bytes
        assert ours
        assert rival
        assert ours < rival


@pytest.mark.promise("V1")
@pytest.mark.promise("V2")
@pytest.mark.parametrize("target", passes.TARGETS)
def test_one_pass_had_the_lowest_latency_and_each_more_cost_some(target: str) -> None:
    kept = passes.read()
    if kept is None:
        pytest.skip("passes are not measured; python -m runtime_tests.bench.passes does it, in about two minutes")
    found = sorted((p.passes, p.p50_us) for p in kept.points if p.target == target)
    assert [n for n, _ in found] == list(passes.COUNTS)
    assert all(fewer < more for (_, fewer), (_, more) in pairwise(found))


def points(mixer: str, microseconds: list[float | None], megabytes: int) -> list[Point]:
    return [
        Point(mixer=mixer, length=n, p50_us=t, peak_bytes=megabytes * 10**6, reason=None if t else "too long")
        for n, t in zip(LENGTHS, microseconds, strict=True)
    ]


def test_the_claim_is_marked_untrue_where_it_is() -> None:
    found = [
        *points(RIVAL, [1, 10, 40, 400, 6400], 100),
        *points("flat", [1, 4, 8, 24, 100], 10),
        *points("slow", [900, 4000, 8000, 24000, 100000], 10),
        *points("close", [900, 1400, 2800, 4000, 6000], 10),
        *points("steep", [0.01, 0.1, 1, 10, 100], 10),
        *points("large", [1, 4, 8, 24, 100], 900),
        *points("short", [1, 4, 8, 24, None], 10),
    ]
    summary = Summary(Kept(date="2026-01-02", points=tuple(found)))
    verdicts = {m: summary.verdict(m) for m in summary.mixers}
    assert verdicts == {
        RIVAL: "",
        "flat": "true",
        "slow": "untrue: no faster",
        "close": "untrue: no faster",
        "steep": "untrue: steep",
        "large": "untrue: larger",
        "short": "untrue: the longest does not run",
    }
    assert summary.exponent("flat") == pytest.approx(1.008, abs=1e-3)
    assert "too long" in summary.text
