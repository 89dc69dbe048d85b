"""Tables of benchmark and inspect: whole names, figures in one style."""

import io

import pytest
from rich.console import Console

from edgepass.describing import benchmarking, inspection
from edgepass.describing.benchmarking import Row
from edgepass.judging.manifest import Latency

MICRO = "\N{MICRO SIGN}s"


def printed(table: object, width: int = 110) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(table)
    return console.export_text()


def test_files_of_one_beginning_are_told_apart() -> None:
    latency = Latency(p50_us=57.6, p95_us=1234.0, threads=1, runs=200, evidence="host runtime")
    names = [f"a_model_with_a_rather_long_name.static_wi8_ai8.{suffix}" for suffix in ("pte", "tflite", "onnx")]
    rows = [Row(file=name, bytes=76_256, peak_bytes=4_420_000, latency=latency) for name in names]
    text = printed(benchmarking.table(rows))
    assert all(name in text for name in names)
    assert all(said in text for said in ("76.3 kB", "4.42 MB", f"57.6 {MICRO}", "1.23 ms", "no phone; 1 thread"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("net.Net/torch.nn.modules.container.Sequential_body/torch.nn.Conv1d_4;1", "Net/Sequential_body/Conv1d_4;1"),
        ("torch.export._trace._non_strict_export.<locals>.Wrapper;2", "Wrapper;2"),
        ("passes.0.mixer.qkv.weight", "passes.0.mixer.qkv.weight"),
        ("", ""),
    ],
)  # fmt: skip
def test_weights_are_called_by_their_modules_alone(name: str, said: str) -> None:
    assert inspection.short(name) == said
