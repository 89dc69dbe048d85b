"""Metrics by name: each is its formula, torchmetrics agrees, and a perfect model scores perfectly in every form."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgepass import catalog
from edgepass.errors import InputError
from edgepass.judging.comparison import compare
from edgepass.judging.metrics._measure import Truth
from edgepass.judging.score import named
from edgepass.samples import Samples

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torchmetrics, of what else is installed
    classification = pytest.importorskip("torchmetrics.functional.classification", reason="pip install torchmetrics")
    import torchmetrics.functional.regression as regression

sizes = st.sampled_from([2, 3, 5, 63])
seeds = st.integers(0, 2**32 - 1)


def value(name: str, outputs: np.ndarray, targets: np.ndarray, **more: Any) -> float:
    return named(name).measure(outputs, Truth(reference=outputs, targets=targets, **more)).value


def drawn(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(sizes, st.sampled_from([1, 2, 7]), seeds)
def test_metrics_of_numbers_are_their_formulas(n: int, width: int, seed: int) -> None:
    generator = drawn(seed)
    y, t = generator.normal(5, 1, (2, n, width))
    assert value("mse", y, t) == pytest.approx(((y - t) ** 2).mean())
    assert value("rmse", y, t) == pytest.approx(np.sqrt(((y - t) ** 2).mean()))
    assert value("mae", y, t) == pytest.approx(abs(y - t).mean())
    explained = 1 - ((y - t) ** 2).sum() / ((t - t.mean(0)) ** 2).sum()
    assert value("r2", y, t) == pytest.approx(explained, rel=1e-6)
    if (t.var(0) > 1e-3).all():  # torchmetrics leaves out an output that hardly varies
        theirs = regression.r2_score(torch.tensor(y), torch.tensor(t), multioutput="variance_weighted")
        assert value("r2", y, t) == pytest.approx(float(theirs), rel=1e-6)


def test_a_level_does_not_swamp_the_variance_that_r2_is_of() -> None:
    y, t = drawn(0).normal(0, 1, (2, 63, 3))
    assert value("r2", y + 1e8, t + 1e8) == pytest.approx(value("r2", y, t), rel=1e-6)


@given(sizes, st.sampled_from([2, 7]), st.sampled_from([1, 5]), st.sampled_from([1, 3]), seeds)
def test_mase_is_the_error_beside_the_change_from_row_to_row(n: int, rows: int, h: int, c: int, seed: int) -> None:
    generator = drawn(seed)
    x, y, t = generator.normal(0, 2, (n, rows, c)), generator.normal(0, 1, (n, h, c)), generator.normal(0, 1, (n, h, c))
    naive = [np.mean([abs(x[i, k + 1, j] - x[i, k, j]) for i in range(n) for k in range(rows - 1)]) for j in range(c)]
    wanted = np.mean([abs(y[:, :, j] - t[:, :, j]).mean() / naive[j] for j in range(c)])
    assert value("mase", y, t, inputs=(x,)) == pytest.approx(wanted)
    assert value("mase", y, t, inputs=(x,), scale=tuple(range(2, 2 + c))) == pytest.approx(wanted)


@given(sizes, seeds)
def test_pinball_is_the_mean_over_levels(n: int, seed: int) -> None:
    generator = drawn(seed)
    levels, scale = (0.1, 0.5, 0.9), (2.0, 3.0)
    y, t = generator.normal(0, 1, (n, 3, 5, 2)), generator.normal(0, 1, (n, 5, 2))
    missed = (t[:, None] - y) / np.array(scale)
    loss = [np.where(missed[:, q] > 0, p * missed[:, q], (p - 1) * missed[:, q]).mean() for q, p in enumerate(levels)]
    assert value("pinball", y, t, levels=levels, scale=scale) == pytest.approx(np.mean(loss))
    assert value("mse", y, t, levels=levels, scale=scale) == pytest.approx((missed[:, 1] ** 2).mean())


@given(sizes, st.sampled_from([2, 3, 11]), st.sampled_from([(), (13,), (4, 6)]), seeds)
def test_metrics_of_classes_are_those_of_torchmetrics(n: int, k: int, places: tuple[int, ...], seed: int) -> None:
    generator = drawn(seed)
    scores, targets = generator.normal(0, 3, (n, k, *places)), generator.integers(0, k, (n, *places))
    y, t = torch.tensor(scores), torch.tensor(targets)
    known = {"num_classes": k}
    assert value("accuracy", scores, targets) == pytest.approx((scores.argmax(1) == targets).mean())
    theirs = classification.multiclass_f1_score(y, t, average="macro", **known)
    assert value("f1", scores, targets) == pytest.approx(float(theirs), abs=1e-6)
    theirs = classification.multiclass_jaccard_index(y, t, average="macro", **known)
    assert value("iou", scores, targets) == pytest.approx(float(theirs), abs=1e-6)
    if all(0 < (targets == c).sum() < targets.size for c in range(k)):  # torchmetrics gives 0 to a class of none
        theirs = classification.multiclass_auroc(y, t, average="macro", **known)
        assert value("auroc", scores, targets) == pytest.approx(float(theirs), abs=1e-5)


@given(sizes, st.sampled_from([1, 2, 5]), st.booleans(), seeds)
def test_metrics_of_labels_are_those_of_torchmetrics(n: int, labels: int, logits: bool, seed: int) -> None:
    generator = drawn(seed)
    targets = generator.integers(0, 2, (n, labels))
    targets[:2] = np.array([[0], [1]])  # each label has both
    if labels > 1:
        targets[0, :2], targets[1, :2] = 0, 1
    # Three distinct scores, so that many are equal; of logits the first lies below 0, as it would among many.
    scores = generator.choice([-1.0, 0.5, 2.0] if logits else [0.25, 0.5, 0.75], (n, labels))
    scores[0, 0] = -1.0 if logits else 0.25
    y, t = torch.tensor(scores), torch.tensor(targets)
    said = scores > (0.0 if logits else 0.5)
    assert value("accuracy", scores, targets) == pytest.approx((said == (targets == 1)).mean())
    hits, either = (said & (targets == 1)).sum(0), (said.astype(int) + targets).sum(0)
    assert value("f1", scores, targets) == pytest.approx((2 * hits / either).mean())
    assert value("iou", scores, targets) == pytest.approx((hits / (either - hits)).mean())
    if labels == 1:
        assert value("f1", scores, targets) == pytest.approx(float(classification.binary_f1_score(y, t)), abs=1e-6)
        theirs = classification.binary_auroc(y.ravel(), t.ravel())
    else:
        theirs = classification.multilabel_f1_score(y, t, num_labels=labels)
        assert value("f1", scores, targets) == pytest.approx(float(theirs), abs=1e-6)
        theirs = classification.multilabel_auroc(y, t, num_labels=labels)
    assert value("auroc", scores, targets) == pytest.approx(float(theirs), abs=1e-6)


def hot(targets: np.ndarray, k: int, axis: int) -> np.ndarray:
    return np.moveaxis(np.eye(k, dtype=np.float32)[targets] * 8 - 4, -1, axis)


def perfect(form: str) -> tuple[np.ndarray, np.ndarray]:
    """Outputs and targets of 60 calls of batch 1: faults that were seen, each of a model that is right."""
    generator = drawn(0)
    yes, of10 = generator.integers(0, 2, 60), generator.integers(0, 10, 60)
    forms: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
        "scores": lambda: (hot(of10, 10, 1)[:, None], of10),
        "scores, a target of [1]": lambda: (hot(of10, 10, 1)[:, None], of10[:, None]),
        "one logit": lambda: ((yes * 8.0 - 4)[:, None, None], yes),
        "one probability": lambda: ((yes * 0.8 + 0.1)[:, None, None], yes[:, None]),
        "one logit, true or false": lambda: ((yes * 8.0 - 4)[:, None, None], yes.astype(bool)),
        "one logit, float targets": lambda: ((yes * 8.0 - 4)[:, None, None], yes.astype(np.float32)),
        "labels": lambda: ((m := generator.integers(0, 2, (60, 1, 5))) * 8.0 - 4, m),
        "[B,C,H,W]": lambda: (hot(m := generator.integers(0, 4, (60, 1, 6, 5)), 4, 2), m),
        "[B,C,T]": lambda: (hot(m := generator.integers(0, 4, (60, 1, 7)), 4, 2), m),
        "[B,T,C]": lambda: (hot(m := generator.integers(0, 4, (60, 1, 7)), 4, 3), m),
        "one logit, [B,1,H,W]": lambda: ((m := generator.integers(0, 2, (60, 1, 1, 6, 5))) * 8.0 - 4, m[:, :, 0]),
        "class number": lambda: (of10[:, None], of10),
        "class number as float": lambda: (of10[:, None].astype(np.float32), of10),
        "true or false": lambda: (yes[:, None].astype(bool), yes),
    }
    return forms[form]()


FORMS = (
    "scores", "scores, a target of [1]", "one logit", "one probability", "one logit, true or false",
    "one logit, float targets", "labels", "[B,C,H,W]", "[B,C,T]", "[B,T,C]", "one logit, [B,1,H,W]", "class number",
    "class number as float", "true or false",
)  # fmt: skip


def scored(name: str, outputs: np.ndarray, targets: np.ndarray) -> Any:
    samples = Samples(inputs=[np.zeros((len(outputs), 1, 3), np.float32)], targets=targets)
    comparison, _ = compare(named(name), samples, [outputs])
    assert comparison is not None
    return comparison


@pytest.mark.parametrize("name", ["accuracy", "f1", "iou", "auroc"])
@pytest.mark.parametrize("form", FORMS)
def test_a_perfect_model_scores_perfectly(name: str, form: str) -> None:
    outputs, targets = perfect(form)
    if name == "auroc" and form.startswith("class number"):
        with pytest.raises(InputError, match="auroc needs a score for each class or label"):
            scored(name, outputs, targets)
        return
    comparison = scored(name, outputs, targets)
    found = comparison.metric([outputs])
    assert (found.value, found.reference, found.interval, found.drop) == (1.0, 1.0, (0.0, 0.0), 0.0)
    assert found.constant < 0.95
    spoilt = comparison.metric([np.roll(outputs, 1, axis=0)])
    assert spoilt.value < 0.95
    assert spoilt.interval[0] > 0


@pytest.mark.parametrize("name", ["mse", "mae", "rmse", "r2"])
def test_a_perfect_regressor_of_whole_numbers_scores_perfectly(name: str) -> None:
    targets = drawn(0).integers(0, 50, 60)
    found = scored(name, targets[:, None, None].astype(np.float32), targets).metric([
        targets[:, None, None].astype(np.float32)
    ])
    assert found.value == (1.0 if name == "r2" else 0.0)


@pytest.mark.parametrize(
    ("name", "outputs", "targets", "sentence"),
    [
        ("mse", (8, 4), (8, 3), r"mse compares each output with a target, but outputs are float64\[8, 4\]"),
        ("accuracy", (8, 4), "half", "accuracy needs targets that are class numbers, but they are float64"),
        ("accuracy", (8, 5, 5), (8, 5), "accuracy: classes may lie along axis 1 or 2 .* and nothing tells which"),
        ("accuracy", (8, 3), (8, 4), r"accuracy needs outputs \[N, classes, ...\] for targets"),
        ("accuracy", (8, 3), "far", "accuracy of 3 classes needs targets from 0 to 2, but they are from 0 to 255"),
        ("accuracy", (8, 1), "far", "accuracy needs one score for each class, or class numbers, but outputs"),
        ("accuracy", (8, 3), "one-hot", "exactly one of 3 targets is 1 in every sample"),
        ("f1", (8, 6, 5), "places", r"axis 1 of outputs \[8, 6, 5\] may hold labels or places"),
        ("mase", (8, 4), (8, 4), r"mase is of forecasts: it needs a first input \[N, rows, columns\]"),
        ("pinball", (8, 4), (8, 4), "pinball is of forecasters that give several levels"),
    ],
)
def test_what_a_metric_is_not_of_is_one_sentence(name: str, outputs: Any, targets: Any, sentence: str) -> None:
    generator = drawn(0)
    y = generator.normal(0, 1, outputs)
    special = {
        "half": np.full(8, 0.5),
        "far": np.array([0, 1, 2, 0, 1, 2, 0, 255]),
        "one-hot": np.eye(3, dtype=np.int64)[np.arange(8) % 3],
        "places": generator.integers(0, 2, (8, 6, 5)),
    }
    t = special[targets] if isinstance(targets, str) else generator.integers(0, 3, targets)
    with pytest.raises(InputError, match=sentence):
        value(name, y, t)


def test_every_metric_says_its_direction_and_what_it_is() -> None:
    names = catalog.names("metrics")
    assert {"accuracy", "f1", "auroc", "iou", "mse", "mae", "mase", "rmse", "r2", "pinball"} == set(names)
    for name in names:
        assert isinstance(named(name).higher_is_better, bool)
        assert catalog.summary("metrics", name)


@given(st.sampled_from(["accuracy", "f1", "iou", "auroc", "mse", "mae", "rmse", "r2"]), sizes, seeds)
def test_a_weight_is_so_many_copies_of_a_sample(name: str, n: int, seed: int) -> None:
    generator = drawn(seed)
    of_classes = name in ("accuracy", "f1", "iou", "auroc")
    targets = generator.integers(0, 3, n) if of_classes else generator.normal(0, 1, (n, 2))
    outputs = generator.normal(0, 1, (n, 3) if of_classes else (n, 2))
    weights = generator.integers(0, 3, (4, n))
    weights[:, 0] += weights.sum(axis=1) == 0
    rows = [np.arange(n).repeat(w) for w in weights]
    given = named(name).measure(outputs, Truth(reference=outputs, targets=targets)).of(weights.astype(np.float64))
    copied = [named(name).measure(outputs[r], Truth(reference=outputs[r], targets=targets[r])).value for r in rows]
    np.testing.assert_allclose(given, copied, rtol=1e-6, atol=1e-9)
