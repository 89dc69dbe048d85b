"""A metric says which way is better, sees outputs as metric libraries do, and is told with what it is worth."""

import functools
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgepass import source
from edgepass.errors import InputError
from edgepass.judging import score
from edgepass.judging.comparison import Comparison, compare
from edgepass.judging.manifest import Metric
from edgepass.samples import Samples
from runtime_tests.conftest import Done

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torchmetrics, of what else is installed
    torchmetrics = pytest.importorskip("torchmetrics", reason="pip install torchmetrics")

Cli = Callable[..., Done]


def accuracy(outputs: Tensor, target: Tensor) -> Tensor:
    return (outputs.argmax(-1) == target).float().mean()


def directed(value: Any, **more: Any) -> Callable[..., Tensor]:
    function = functools.wraps(accuracy)(lambda outputs, target: accuracy(outputs, target))
    vars(function).update({"higher_is_better": value, **more})
    return function


def compared(given: Any, outputs: list[np.ndarray], targets: np.ndarray, batch: int = 1, **more: Any) -> Comparison:
    samples = Samples(inputs=[np.zeros((len(outputs[0]), batch, 3), np.float32)], targets=targets, **more)
    found, notes = compare(None if given is None else score.of(given, "here"), samples, outputs)
    assert found is not None, notes
    return found


def answers(n: int, classes: int = 4, right: float = 0.8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores [n, 1, classes] that are right so often, and the classes."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, classes, n)
    said = np.where(generator.random(n) < right, targets, (targets + 1) % classes)
    return (np.eye(classes)[said] + generator.normal(0, 0.01, (n, classes)))[:, None].astype(np.float32), targets


@pytest.mark.parametrize(
    ("given", "told", "sentence"),
    [
        (accuracy, None, 'nothing says whether a higher accuracy is better; let here give (accuracy, "higher") or'),
        (lambda o, t: 0.0, None, "nothing says whether a higher metric is better"),
        ((accuracy, "up"), None, 'here gives a tuple; a pair must be (function, "higher" | "lower")'),
        ((accuracy,), None, 'here gives a tuple; a pair must be (function, "higher" | "lower")'),
        (directed("yes"), None, "higher_is_better of accuracy is 'yes'; it must be True or False"),
        (directed(True), False, "the metric accuracy says that higher is better, but lower was asked for"),
        ((accuracy, "lower"), True, "here says that lower is better, but higher was asked for"),
        ((directed(True), "lower"), None, "the metric accuracy says that higher is better, but lower was asked for"),
        ("mse", True, "the metric mse says that lower is better, but higher was asked for"),
        (3, None, "here gives a int; it must be a name (accuracy, auroc, "),
        ("acuracy", None, "no metric 'acuracy'; did you mean 'accuracy'?"),
        (torchmetrics.MeanSquaredError, None, "the class MeanSquaredError; give an object of it: MeanSquaredError(…)"),
        (torchmetrics.MetricCollection([torchmetrics.MeanSquaredError()]), None, "a higher MetricCollection is better"),
        (directed(True, output=-1), None, 'output of accuracy is -1; it must be the number of an output, or "all"'),
        (directed(True, output=2), None, "the metric accuracy is of output 2, but the model gives 1, from 0"),
    ],
)
def test_a_direction_that_is_not_said_once_is_one_sentence(given: Any, told: bool | None, sentence: str) -> None:
    outputs, targets = answers(7)
    samples = Samples(inputs=[np.zeros((7, 1, 3))], targets=targets)
    with pytest.raises(InputError) as refused:
        compare(score.of(given, "here", told), samples, [outputs])
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("given", "told", "higher"),
    [
        ((accuracy, "higher"), None, True),
        ([accuracy, "lower"], None, False),
        (accuracy, True, True),
        (directed(False), None, False),
        (directed(True), True, True),
        ("rmse", None, False),
        (torchmetrics.classification.MulticlassAccuracy(num_classes=4), None, True),
        (torchmetrics.MeanAbsoluteError(), None, False),
        (torch.nn.L1Loss(), False, False),
    ],
)
def test_a_direction_is_said_in_any_of_these_ways(given: Any, told: bool | None, higher: bool) -> None:
    assert score.of(given, "here", told).higher_is_better is higher


@pytest.mark.parametrize("output", [0, 1])
@pytest.mark.parametrize(
    ("shape", "target"), [((1, 1, 6, 5), (1, 6, 5)), ((1, 1, 5), (1, 5)), ((1, 1), (1,)), ((1, 6, 5), (1, 6, 5))]
)
def test_targets_that_are_shaped_as_the_outputs_stay_so(
    shape: tuple[int, ...], target: tuple[int, ...], output: int
) -> None:
    """The case that was: outputs [n, 1, H, W] beside targets [n, H, W] broadcast to [n, n, H, W]: 0.57, not 1."""
    targets = np.random.default_rng(0).integers(0, 2, (60, *target))
    outputs = [targets.reshape(60, *shape) * 8.0 - 4, np.zeros((60, 1, 7))]

    def mine(given: Tensor, wanted: Tensor) -> Tensor:
        assert given.shape == wanted.shape
        return ((given > 0) == wanted).float().mean()

    mine.output = output  # type: ignore[attr-defined]
    found = compared((mine, "higher"), outputs if output == 0 else outputs[::-1], targets)
    assert found.float_measure.value == 1.0


def test_the_batch_is_that_of_the_output_that_the_metric_is_of() -> None:
    outputs, targets = answers(63, right=1.0)
    found = compared((directed(True, output=1), "higher"), [np.zeros((63, 4)), outputs], targets)
    assert found.float_measure.value == 1.0


def test_a_metric_of_torchmetrics_without_a_direction_asks_for_one() -> None:
    metric = torchmetrics.MeanMetric()
    assert metric.higher_is_better is None
    with pytest.raises(InputError, match="nothing says whether a higher MeanMetric is better"):
        score.of(metric, "here")
    assert score.of((metric, "higher"), "here").name == "MeanMetric"


@pytest.mark.parametrize("n", [1, 63])
@pytest.mark.parametrize("batch", [1, 3])
def test_outputs_come_as_metric_libraries_expect_them(n: int, batch: int) -> None:
    """The case that was: argmax(-1) of [60, 1, classes] beside [60] broadcast to [60, 60], 0.13 where it is 1."""
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 4, (n, batch))
    outputs = np.eye(4, dtype=np.float32)[targets]
    seen: list[tuple[Any, Any]] = []

    def mine(given: Tensor, target: Tensor) -> Tensor:
        seen.append((tuple(given.shape), tuple(target.shape)))
        return accuracy(given, target)

    for shaped in [targets] if batch > 1 else [targets, targets[:, 0]]:
        theirs = torchmetrics.classification.MulticlassAccuracy(num_classes=4, average="micro")
        for metric in ((mine, "higher"), theirs):
            found = compared(metric, [outputs], shaped, batch).metric([outputs])
            assert (found.value, found.samples) == (1.0, n * batch)
    assert seen[0] == ((n * batch, 4), (n * batch,))


def test_a_model_without_a_batch_is_taken_as_it_is() -> None:
    targets = np.random.default_rng(0).integers(0, 5, 63)
    outputs = np.eye(5, dtype=np.float32)[targets]  # [n, classes] of inputs [n, 5]: equal sizes, yet no batch
    samples = Samples(inputs=[np.zeros((63, 5), np.float32)], targets=targets)
    found, _ = compare(None, samples, [outputs])
    assert found is not None
    assert (found.score.name, found.float_measure.value) == ("accuracy", 1.0)


def test_a_metric_may_be_of_another_output_or_of_all() -> None:
    outputs, targets = answers(63, right=1.0)
    second = compared(directed(True, output=1), [np.zeros_like(outputs), outputs], targets)
    assert second.metric([outputs, outputs]).value == 1.0
    assert second.metric([outputs, outputs]).output == "output_1"
    taken = compared((both_are_right, "higher"), [outputs, outputs], targets)
    assert taken.metric([outputs, outputs]).value == 1.0
    assert taken.metric([outputs, np.roll(outputs, 1, 0)]).value < 0.6
    assert taken.metric([outputs, outputs]).output == "all outputs"


def both_are_right(outputs: tuple[Tensor, ...], target: Tensor) -> float:
    first, second = (o.argmax(-1) == target for o in outputs)
    return float((first & second).double().mean())


both_are_right.output = "all"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("targets", "outputs", "name"),
    [
        (np.float32([0.5, 1, 2]), np.zeros((3, 1, 1), np.float32), "mse"),
        (np.array([0, 3, 2]), np.zeros((3, 1, 4), np.float32), "accuracy"),
        (np.array([True, False, True]), np.zeros((3, 1, 1), np.float32), "accuracy"),
        (np.array([0, 3, 2]), np.zeros((3, 1), np.int64), "accuracy"),
        (np.array([0, 1, 1]), np.zeros((3, 1, 1), np.float32), "integer targets with one number for each"),
        (np.array([0, 9, 5]), np.zeros((3, 1, 1), np.float32), "integer targets with one number for each"),
        (np.float32([0, 1, 1]), np.zeros((3, 1, 1), np.float32), "targets that are all 0 or 1 may be classes or"),
        (np.array([0, 9, 5]), np.zeros((3, 1, 4), np.float32), "accuracy of 4 classes needs targets from 0 to 3"),
    ],
)
def test_the_default_metric_is_the_only_one_that_can_be_meant(targets: Any, outputs: Any, name: str) -> None:
    found, notes = compare(None, Samples(inputs=[np.zeros((3, 1, 2))], targets=targets), [outputs])
    if " " not in name:
        assert found is not None
        assert found.score.name == name
    else:
        assert found is None
        assert notes[0].startswith("there is no task metric: ")
        assert name in notes[0]


def test_targets_that_fit_nothing_and_metrics_that_raise_are_one_sentence() -> None:
    with pytest.raises(InputError, match=r"targets float32\[3, 5\] do not fit outputs float32\[3, 4\]"):
        compare(
            None,
            Samples(inputs=[np.zeros((3, 1, 2))], targets=np.zeros((3, 5), np.float32)),
            [np.float32(answers(3)[0])],
        )
    outputs, targets = answers(3)
    for broken, said in (
        (lambda o, t: 1 / 0, "raises ZeroDivisionError"),
        (lambda o, t: o, "raises ValueError: only one"),
    ):
        with pytest.raises(
            InputError, match=r"the metric metric of outputs float32\[3, 4\] and targets int64\[3\] " + said
        ):
            compared((broken, "higher"), [outputs], targets)
    with pytest.raises(InputError, match="the metric metric of the float32 model is nan"):
        compared((lambda o, t: float("nan"), "higher"), [outputs], targets)


def test_a_metric_without_targets_is_told() -> None:
    found, notes = compare(score.of("f1", "here"), Samples(inputs=[np.zeros((3, 1, 2))]), [answers(3)[0]])
    assert found is None
    assert "f1 is not measured: the evaluation data have no targets" in notes[0]


def test_a_float_model_that_is_no_better_than_a_constant_is_told() -> None:
    generator = np.random.default_rng(0)
    rare = (generator.random(200) < 0.1).astype(np.int64)
    blind = np.stack([np.ones(200), np.zeros(200)], 1).astype(np.float32)[:, None]  # always class 0
    samples = Samples(inputs=[np.zeros((200, 1, 2))], targets=rare)
    found, notes = compare(None, samples, [blind])
    assert found is not None
    assert found.constant is not None
    assert found.constant.value == pytest.approx(1 - rare.mean())
    assert "the float model itself is no better than one constant answer: its accuracy is" in notes[0]
    values = generator.normal(5, 2, (200, 3)).astype(np.float32)
    for name, formula in (("mse", lambda e: (e**2).mean()), ("mae", lambda e: abs(e).mean())):
        best = formula(values - (values.mean(0) if name == "mse" else np.median(values, 0)))
        samples = Samples(inputs=[np.zeros((200, 1, 2))], targets=values)
        found, notes = compare(score.of(name, "here"), samples, [values[:, None] * 1.01])
        assert found is not None
        assert found.constant is not None
        assert (found.constant.value, notes) == (pytest.approx(best, rel=1e-5), [])
        _, notes = compare(score.of(name, "here"), samples, [np.roll(values, 1, 0)[:, None]])
        assert "no better than one constant answer" in notes[0]


@pytest.mark.parametrize("name", ["accuracy", "auroc", "mse"])
@pytest.mark.parametrize("right", [104, 180])
def test_a_float_model_that_chance_may_have_put_above_a_constant_is_told(name: str, right: int) -> None:
    sign = np.where(np.random.default_rng(0).permutation(200) < right, 1.0, -1.0)  # right on so many of 200
    truth = np.arange(200) % 2
    outputs = sign * (truth - 0.5) if name != "mse" else 0.5 + 0.02 * sign * (truth - 0.5)
    targets = truth if name != "mse" else truth.astype(np.float32)[:, None]
    samples = Samples(inputs=[np.zeros((200, 1, 2))], targets=targets)
    found, notes = compare(score.of(name, "here"), samples, [outputs.astype(np.float32)[:, None, None]])
    assert found is not None
    assert found.constant_interval is not None
    assert (found.constant_interval[0] > 0) == (right == 180)
    assert any("200 samples do not tell the float model from one constant answer" in n for n in notes) == (right == 104)


MODEL = """
import torch

def get_model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 4))

def get_args():
    return (torch.zeros(1, 6),)

def get_eval_data():
    generator = torch.Generator().manual_seed(1)
    return [((torch.randn(1, 6, generator=generator),), i % 4) for i in range(24)]

def share(outputs, target):
    return (outputs.argmax(-1) == target).double().mean()

def get_metric():
    return {metric}

def get_other():
    return share, "higher"
"""


@pytest.mark.parametrize(
    ("metric", "options", "sentence"),
    [
        ("share", [], 'model.py:get_metric give (share, "higher") or (share, "lower"), or add --higher-is-better'),
        ("share, 'higher'", ["--lower-is-better"], "says that higher is better, but lower was asked for"),
        ("1 / 0", [], "`return 1 / 0` raises ZeroDivisionError"),
        ("share", ["--metric", "acc"], "no metric 'acc'; did you mean 'accuracy'?"),
        ("share", ["--metric", "mse", "--higher-is-better"], "the metric mse says that lower is better"),
        ("share", ["--metric", "pinball"], "pinball is of forecasters that give several levels"),
        ("share", ["--max-metric-drop", "2"], "'2' would be 200%; write 2% or 0.02"),
        ("share", ["--max-metric-drop", "1"], "'1' would be 100%; write 1% or 0.01"),
        ("share", ["--max-metric-drop", "-3%"], "'-3%' is less than nothing; write it as 1%"),
        ("share", ["--min-delegated", "95"], "'95' would be 9500%; write 95% or 0.95"),
        ("share", ["--min-delegated", "101%"], "'101%' is more than everything; write it as 95%"),
    ],
)
def test_a_metric_that_cannot_be_used_is_one_sentence_and_exit_3(
    edgepass: Cli, metric: str, options: list[str], sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "model.py").write_text(MODEL.format(metric=metric))
    done = edgepass("export", f"{tmp_path}/model.py:get_model", "-o", tmp_path / "o", "--recipe", "fp32", *options)
    assert done.code == 3, done
    assert sentence in " ".join(done.err.split()), done.err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("metric", "options", "name", "higher"),
    [
        ("share", {"higher_is_better": True}, "share", True),
        ("share, 'higher'", {}, "share", True),
        ("share", {"metric": "f1"}, "f1", True),
        ("'iou'", {}, "iou", True),
    ],
)
def test_a_file_s_metric_and_the_command_s(
    metric: str, options: dict[str, Any], name: str, higher: bool, tmp_path: Path
) -> None:
    (tmp_path / "model.py").write_text(MODEL.format(metric=metric))
    task = source.load(f"{tmp_path}/model.py:get_model", **options)
    assert task.score is not None
    assert (task.score.name, task.score.higher_is_better) == (name, higher)
    other = source.load(f"{tmp_path}/model.py:get_model", metric=f"{tmp_path}/model.py:get_other")
    assert other.score is not None
    assert other.score.name == "share"


def test_a_direction_once_said_is_that_of_the_same_metric_later(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(MODEL.format(metric="share"))
    model = f"{tmp_path}/model.py:get_model"
    before = Metric(name="share", reference=0.5, value=0.5, higher_is_better=True, samples=24)
    task = source.load(model, before={"": before})
    assert task.score is not None
    assert task.score.higher_is_better
    assert not score.of((accuracy, "lower"), "here", None, replace(before, name="accuracy")).higher_is_better, (
        "what is said now counts"
    )
    with pytest.raises(InputError, match="nothing says whether a higher share is better"):
        source.load(model, before={"": replace(before, name="other")})


def test_a_direction_of_no_metric_is_one_sentence() -> None:
    with pytest.raises(InputError, match="the metric mse says that lower is better, but higher was asked for"):
        source.load("single-xs", higher_is_better=True, evaluation_samples=2)


def test_a_forecaster_may_be_scored_by_any_metric_of_numbers() -> None:
    names = ("mse", "mae", "rmse", "mase", "r2")
    values: dict[str, Metric] = {}
    for name in names:
        task = source.load("single-xs", metric=name, evaluation_samples=7)
        assert task.evaluation is not None
        found, _ = compare(task.score, task.evaluation, reference := task.reference(task.evaluation))
        assert found is not None
        values[name] = found.metric([reference[0] * 1.1])
    assert values["rmse"].value == pytest.approx(np.sqrt(values["mse"].value))
    assert all(m.samples == 7 and np.isfinite(m.value) for m in values.values())
