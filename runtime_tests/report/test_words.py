"""Figures and words are written in one style everywhere."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepass.judging import figures
from edgepass.judging.manifest import Metric
from edgepass.report import words


@given(st.just(0.0) | st.floats(min_value=1e-3, max_value=1e12))
def test_sizes_and_durations_keep_three_digits(value: float) -> None:
    for said, scales in (
        (figures.size(value), {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}),
        (figures.duration(value), {"\N{MICRO SIGN}s": 1, "ms": 1e3, "s": 1e6}),
    ):
        figure, unit = said.split()
        assert float(figure) * scales[unit] == pytest.approx(value, rel=6e-3, abs=0.51)
        assert "e" not in figure


def test_units_change_where_rounding_would_show_four_digits() -> None:
    assert [figures.size(v) for v in (0, 999, 999_499, 999_500, 5e6)] == ["0 B", "999 B", "999 kB", "1 MB", "5 MB"]
    assert [figures.duration(v) for v in (412.4, 999_600.0)] == ["412 \N{MICRO SIGN}s", "1 s"]


def test_shares_never_round_up_to_everything() -> None:
    assert [figures.percent(v) for v in (1.0, 0.99999, 0.5, 0.0, None)] == [
        "100 %",
        "99.9 %",
        "50 %",
        "0 %",
        "not known",
    ]


def test_numbers_that_are_none_are_said_in_words() -> None:
    assert figures.number(float(np.finfo(np.float64).max)) == "not finite"
    assert figures.decibels(200.0) == "equal bit for bit"
    assert figures.decibels(-200.0) == "no signal left"
    zero = Metric(name="mse", reference=0.0, value=0.1, higher_is_better=False, samples=1)
    assert words.change(zero) == "worse"
    assert words.gate("min_new_thing", 3.0) == "min new thing 3"
    assert words.sentence("the file is late ") == "The file is late."
    assert words.sentence("conv_1.weight is float.") == "conv_1.weight is float."
    assert words.shape((None, 3, None)) == "n × 3 × o"  # noqa: RUF001
