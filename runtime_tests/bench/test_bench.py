"""The benchmarks run: the cheapest on a tiny model, once. What they measure is nobody's business here."""

from pathlib import Path

import pytest

from runtime_tests.bench import __main__ as bench
from runtime_tests.bench import export, help
from runtime_tests.bench.measure import Row, check, interleaved
from runtime_tests.conftest import ROOT


def test_the_cheapest_benchmark_has_a_ratio_and_a_verdict() -> None:
    section = help.run(rounds=2)
    (row,) = section.rows
    assert row.ratio == row.ours / row.rival > 1
    text = bench.document([section], "2026-01-02", [0.5, 1.5])
    assert "on 2026-01-02." in text
    assert f"## {section.title}" in text
    assert f"| {row.ratio:.2f} | <= {row.aim:.2f} | {row.verdict} |" in text


@pytest.mark.export
@pytest.mark.slow  # what it converts is also converted by every test of exports
def test_the_export_benchmark_converts_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    time, cpu, work, memory = export.run(rounds=1, subject="tiny").rows
    assert time.ours > work.ours > 0
    assert time.rival > work.rival > 0
    assert cpu.ours > work.ours / 2
    assert memory.unit == "MiB"
    assert not list(tmp_path.iterdir()), "converting wrote into the current directory"


def test_rounds_are_interleaved_and_every_call_is_timed() -> None:
    order: list[str] = []
    seconds = interleaved({n: lambda n=n: order.append(n) for n in "abc"}, rounds=3)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert [len(values) for values in seconds.values()] == [3, 3, 3]


@pytest.mark.parametrize(
    ("ours", "aim", "noise", "verdict"),
    [(1.0, 1.0, 0.0, "met"), (1.02, 1.0, 0.03, "within noise"), (1.05, 1.0, 0.03, "missed"), (9.0, None, 0.0, "")],
)
def test_a_verdict_knows_the_noise(ours: float, aim: float | None, noise: float, verdict: str) -> None:
    assert Row(what="", ours=ours, rival=1.0, unit="s", aim=aim, noise=noise).verdict == verdict


def test_a_wrong_result_stops_the_run() -> None:
    with pytest.raises(RuntimeError, match="a result is wrong: 1 != 2"):
        check(False, "1 != 2")
