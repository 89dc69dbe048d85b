"""The verdicts on a terminal."""

import io
from dataclasses import replace

from rich.console import Console

from edgepass.report import summary, words
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
    assert text.count("coreml r ") == 2
    assert "r: reference executor, not the device's runtime" in text
    assert text.count("\N{MICRO SIGN}s") == 4  # a reference executor's time is nobody's latency
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


def test_lines_are_reasons_then_notes_then_what_the_report_begins_with() -> None:
    lines = summary.lines(a_forecaster(), "out/")
    assert lines[0].startswith("coreml static_wi8_ai8: not evaluated: the peak memory")
    assert lines[1].startswith("tflite static_wi8_ai8: FAIL: the median latency")
    assert lines[2] == "executorch fp16: note: float16 is slower than float32 on this processor."
    assert [line.partition(":")[0] for line in lines[3:]] == [
        "verdict",
        "the model",
        "recipes",
        "converters",
        *(f"ship for {target}" for target in ("executorch", "coreml", "tflite")),
        "next",
    ]
    assert lines[4].startswith("the model: 0.65 % more error than ridge mse. ")
    assert lines[-1].startswith("next: edgepass inspect out/model.static_wi8_ai8.mlpackage")


def test_nothing_is_a_change_without_sign() -> None:
    assert [words.signed(drop) for drop in (0.0, 4e-4, -4e-4, 0.003, -0.02, 2e3)] == [
        "0 %", "0 %", "0 %", "+0.3 %", "-2.0 %", "worse"
    ]  # fmt: skip
