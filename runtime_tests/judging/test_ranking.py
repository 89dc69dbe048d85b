"""Classifiers: which classes come first, ties apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepass.judging import gates, ranking
from edgepass.judging.gates import Gates
from runtime_tests.judging.test_parity import record


def scores(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@given(st.integers(1, 63), st.integers(2, 13), st.integers(1, 3))
def test_equal_scores_rank_equally_along_any_axis(samples: int, classes: int, axis: int) -> None:
    x = np.moveaxis(scores(samples, 1, 7, classes), -1, axis)
    found = ranking.compare(x, x, axis, "output_0")
    assert (found.answers, found.flips) == (samples * 7, 0)
    assert found.top_k == (1.0 if classes > 5 else None)


def test_flips_are_counted() -> None:
    x = scores(64, 1, 10)
    y = x.copy()
    best = x.argmax(-1)
    for row in (3, 17, 40):
        y[row, 0, (best[row, 0] + 1) % 10] = 99
    found = ranking.compare(x, y, 2, "output_0")
    assert (found.answers, found.flips) == (64, 3)
    assert found.share == pytest.approx(0.953125)
    assert found.top_k
    assert found.top_k > 0.98


def test_a_tie_may_go_either_way() -> None:
    x = np.array([[1.0, 1.0 + 1e-7, 0.0], [2.0, 5.0, 5.0]], np.float32)
    y = np.array([[1.1, 1.0, 0.0], [2.0, 5.0, 5.1]], np.float32)
    assert ranking.compare(x, y, 1, "output_0").flips == 0
    assert ranking.compare(x, y[:, ::-1], 1, "output_0").flips == 2


def test_scores_that_are_no_numbers_come_last() -> None:
    x = scores(8, 10)
    found = ranking.compare(x, np.full_like(x, np.nan), 1, "output_0")
    assert found.flips == int((x.argmax(1) != 0).sum())


def test_flips_are_held_to_the_agreement_that_is_asked_for() -> None:
    x = scores(64, 10)
    y = x.copy()
    y[:7] = -y[:7]
    found = record(ranking=ranking.compare(x, y, 1, "output_0"))
    assert gates.judge(found, Gates(min_agreement=0.85)) == ("pass", [])
    assert gates.judge(found, Gates(min_agreement=0.95))[1] == [
        "loss: agreement of the classes of output_0 is 89.1%, less than 95.0%"
    ]


def test_no_answers_are_the_same() -> None:
    none = np.zeros((4, 0, 10), np.float32)
    found = ranking.compare(none, none, 2, "output_0")
    assert (found.answers, found.share, found.top_k) == (0, 1.0, None)
