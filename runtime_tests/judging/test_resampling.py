"""How surely a drop is known: the paired bootstrap, what too few samples can tell, and the gate at its bad end."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepass.judging import comparison, gates, resampling
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import Metric
from runtime_tests.judging.test_parity import record

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torchmetrics, of what else is installed
    torchmetrics = pytest.importorskip("torchmetrics", reason="pip install torchmetrics")

from runtime_tests.judging.test_score import accuracy, answers, compared


@given(st.sampled_from([2, 7, 63]), st.sampled_from([1, 3, 100]), st.integers(1, 9))
def test_every_resampling_draws_as_many_samples_in_whole_blocks(n: int, block: int, resamplings: int) -> None:
    drawn = np.concatenate(list(resampling.weights(n, resamplings, block)))
    assert drawn.shape == (resamplings, n)
    assert (drawn.sum(axis=1) == n).all()
    assert (drawn >= 0).all()
    again = np.concatenate(list(resampling.weights(n, resamplings, block)))
    np.testing.assert_array_equal(drawn, again)
    if block >= n:
        assert (drawn == 1).all()


def test_the_interval_is_that_of_the_textbook_where_there_is_one() -> None:
    """The drop of a mean has standard error sd(difference) / (sqrt(n) reference)."""
    generator = np.random.default_rng(1)
    targets = np.zeros((2000, 1), np.float32)
    outputs = generator.normal(1, 0.1, (2000, 1, 1)).astype(np.float32)
    worse = outputs + generator.normal(0.02, 0.05, outputs.shape).astype(np.float32)
    found = compared("mae", [outputs], targets + 0.001).metric([worse])
    assert found.interval is not None
    error = (abs(worse - 0.001) - abs(outputs - 0.001)).ravel()
    wanted = 1.96 * error.std() / np.sqrt(2000) / found.reference
    assert found.interval[0] < found.drop < found.interval[1]
    assert (found.interval[1] - found.interval[0]) / 2 == pytest.approx(wanted, rel=0.1)
    assert found.not_worse == pytest.approx((error <= 0).mean(), abs=1e-3)


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Of 300 draws of 200 samples, the drop of the whole population lies in nearly 95 % of the intervals."""
    outputs, targets = answers(60_000, right=0.9)
    flipped = np.random.default_rng(2).random(len(targets)) < 0.05
    worse = np.where(flipped[:, None, None], np.roll(outputs, 1, axis=-1), outputs)
    truth = compared("accuracy", [outputs], targets).metric([worse]).drop
    held = 0
    for draw in range(300):
        rows = slice(200 * draw, 200 * (draw + 1))
        found = compared("accuracy", [outputs[rows]], targets[rows]).metric([worse[rows]])
        assert found.interval is not None
        held += found.interval[0] <= truth <= found.interval[1]
    assert 0.90 <= held / 300 <= 0.99


def test_overlapping_windows_are_not_counted_as_samples_of_their_own() -> None:
    generator = np.random.default_rng(0)
    targets = np.zeros((960, 4), np.float32)
    outputs = np.ones((960, 1, 4), np.float32)
    shared = np.repeat(generator.normal(0, 0.3, 40), 24).astype(np.float32)  # 24 neighbours err alike
    worse = outputs + shared[:, None, None]
    wide = compared("mae", [outputs], targets, overlap=24).metric([worse]).interval
    narrow = compared("mae", [outputs], targets).metric([worse]).interval
    assert wide is not None
    assert narrow is not None
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0])


def test_a_function_is_resampled_and_a_mean_is_known_as_one() -> None:
    outputs, targets = answers(63)
    worse = np.roll(outputs, 1, axis=0)
    mean = compared((accuracy, "higher"), [outputs], targets).metric([worse])
    named = compared("accuracy", [outputs], targets).metric([worse])
    assert (mean.not_worse, mean.value) == (named.not_worse, pytest.approx(named.value))
    assert mean.interval == pytest.approx(named.interval, abs=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        object_ = torchmetrics.classification.MulticlassF1Score(num_classes=4, average="macro")
        theirs = compared(object_, [outputs], targets).metric([worse])
    ours = compared("f1", [outputs], targets).metric([worse])
    assert theirs.value == pytest.approx(ours.value, abs=1e-6)
    assert theirs.interval is not None
    assert theirs.interval == pytest.approx(ours.interval, rel=0.2)
    assert theirs.not_worse is None


def test_no_changed_answer_is_not_certainty() -> None:
    outputs, targets = answers(60)
    comparison_ = compared("accuracy", [outputs], targets)
    found = comparison_.metric([outputs * 1.01])
    assert (found.drop, found.not_worse) == (0.0, 1.0)
    assert found.interval == pytest.approx((-0.05 / found.reference, 0.05 / found.reference))
    assert comparison_.metric([outputs]).interval == (0.0, 0.0), "equal bit for bit"
    said = comparison.too_few([found])
    assert "60 samples cannot tell a drop in accuracy of 1 % from one of 3 %" in said[0]
    many, right = answers(2000)
    assert not comparison.too_few([compared("accuracy", [many], right).metric([many * 1.01])])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_outputs_that_are_no_numbers_have_the_worst_metric(bad: float) -> None:
    outputs, targets = np.ones((63, 1, 2), np.float32), np.zeros((63, 2), np.float32)
    broken = outputs.copy()
    broken[40, 0, 1] = bad
    found = compared("mae", [outputs], targets + 0.5).metric([broken])
    assert found.value > 1e300
    assert found.interval is None
    outcome, (sentence,) = gates.judge(record(metric=found), Gates(max_metric_drop=1.0))
    assert outcome == "fail"
    assert "mae 0.5 → not finite, lower is better: worse, more than 100 %" in sentence


def test_confident_holds_the_bad_end_of_the_interval() -> None:
    metric = Metric(
        name="accuracy", reference=0.98, value=0.97, higher_is_better=True, samples=64, interval=(-0.01, 0.0312)
    )
    assert gates.judge(record(metric=metric), Gates(max_metric_drop=0.02))[0] == "pass"
    outcome, (sentence,) = gates.judge(record(metric=metric), Gates(max_metric_drop=0.02, confident=True))
    assert outcome == "fail"
    assert sentence == (
        "accuracy 0.98 → 0.97, higher is better: at the bad end of its 95 % interval worse by 3.12 %, more than 2 %"
    )
    alone = Metric(name="accuracy", reference=1.0, value=1.0, higher_is_better=True, samples=1)
    outcome, (sentence,) = gates.judge(record(metric=alone), Gates(max_metric_drop=0.02, confident=True))
    assert outcome == "not-evaluated"
    assert "its drop has no 95 % interval to be confident of; give more evaluation data" in sentence
    assert Gates(max_metric_drop=0.02, confident=True).set() == {"max_metric_drop": 0.02, "confident": 1.0}
    assert Gates(max_metric_drop=0.02).set() == {"max_metric_drop": 0.02}
