"""What CONVERSIONS.md says is of what was measured, and ours is no slower than the bare converter beyond the aim."""

from statistics import geometric_mean

from runtime_tests import corpus
from runtime_tests.bench import conversions
from runtime_tests.bench.conversions import Cell, Measured

KEPT = conversions.KEPT.read()


def test_the_page_is_of_what_is_kept() -> None:
    assert conversions.PAGE.read_text() == conversions.page(list(KEPT.values()))
    assert set(KEPT) <= set(corpus.names())


def test_all_files_of_a_model_take_no_longer_than_the_bare_converters() -> None:
    assert geometric_mean([r for row in KEPT.values() if (r := row.ratio)]) <= conversions.AIM


def test_a_slower_one_stands_out_and_one_without_a_rival_is_told() -> None:
    cells = (
        Cell(target="executorch", recipe="fp32", ours=3, theirs=2),
        Cell(target="coreml", recipe="fp32", ours=2, theirs=2),
        Cell(target="tflite", recipe="fp32", ours=1, theirs=None),
        Cell(target="onnx", recipe="fp32", ours=1, theirs=2),
    )
    row = Measured(model="some", date="2026-11-28", versions={"torch": "2"}, nodes=63, capture=0.5, cells=cells)
    text = conversions.page([row])
    assert "| some | 63 | 3.0 / 2.0 = **1.50** | 2.0 / 2.0 = 1.00 | 1.0 / n | 1.0 / 2.0 = 0.50 | 0.5 | - |" in text
    assert "| geometric mean | | **1.50** | 1.00 | - | 0.50 | | - |" in text


def test_capturing_once_is_counted_once() -> None:
    cells = tuple(Cell(target=target, recipe="fp32", ours=3, theirs=2) for target, _ in conversions.ASKED)
    row = Measured(model="some", date="2026-11-28", versions={}, nodes=1, capture=1, cells=cells)
    assert row.ratio == (4 * 2 + 1) / (4 * 2)
