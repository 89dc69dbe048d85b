"""The verdicts on a terminal."""

import io
from dataclasses import replace

from rich.console import Console

from edgepass.report import summary
from runtime_tests.report.manifests import a_forecaster, an_artifact


def test_the_terminal_table_fits_100_columns_and_marks_the_evidence() -> None:
    manifest = a_forecaster()
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(summary.table(manifest))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 100
    text = "\n".join(lines)
    assert "…" not in text
    assert text.count("static_wi8_ai8") == 3
    assert text.count("26.6 r") == 1
    assert "r: reference executor, not the device's runtime" in text
    assert [text.count(w) for w in ("pass", "FAIL", "evaluated")] == [4, 1, 1]
    wide = Console(width=140, record=True, file=io.StringIO())
    wide.print(summary.table(manifest))
    assert wide.export_text().count("not evaluated") == 1  # which may stand on two lines of a narrow one


def test_markup_in_names_is_not_obeyed_by_the_terminal() -> None:
    manifest = replace(a_forecaster(), artifacts=[an_artifact("[red]t[/red]", "[/]")])
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(summary.table(manifest))
    text = console.export_text()
    assert "[red]t[/red]" in text
    assert "[/]" in text


def test_summary_lines_are_reasons_then_notes() -> None:
    lines = summary.lines(a_forecaster())
    assert lines[0].startswith("coreml static_wi8_ai8: not evaluated: the peak memory")
    assert lines[1].startswith("tflite static_wi8_ai8: FAIL: the median latency")
    assert lines[2:] == ["executorch fp16: note: float16 is slower than float32 on this processor."]
