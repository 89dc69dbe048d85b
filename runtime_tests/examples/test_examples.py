"""Every worked example is trained as a user would, beats what is trivial, needs its far token, and survives int8."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from edgepass import catalog, examples, pipeline, source
from edgepass.examples import sensors, text, two_modalities, video
from edgepass.judging.gates import Gates
from edgepass.plan import Plan
from edgepass.samples import Samples
from edgepass.task import Task
from runtime_tests.conftest import CONVERTERS_WARN

pytestmark = [pytest.mark.export, CONVERTERS_WARN]
Arrays = list[Tensor]
NAMES = catalog.names("examples")
DATA: dict[str, Callable[[int, int], tuple[Arrays, Tensor]]] = {
    "text": text.questions,
    "sensors": sensors.recordings,
    "two_modalities": two_modalities.scenes,
    "video": video.clips,
}
AT_LEAST = {"text": 0.83, "sensors": 0.97, "two_modalities": 0.93, "video": 0.9}
AT_MOST = {"text": 0.7, "sensors": 0.6, "two_modalities": 0.6, "video": 0.4}
"""Accuracy of a linear classifier of the inputs; for text, of how often each letter and each question occur."""


@cache
def task(name: str) -> Task:
    """The example as an export loads it, trained once for all tests."""
    return source.load(f"{Path(examples.__path__[0]) / name}.py:get_model")


def samples(name: str) -> Samples:
    found = task(name).evaluation
    assert found is not None
    assert found.targets is not None
    return found


def accuracy(name: str, *inputs: Tensor) -> float:
    """Of the trained example on other inputs, held against the labels of its own evaluation data."""
    targets = samples(name).targets
    with torch.no_grad():
        return float((task(name).module(*inputs).argmax(1).numpy() == targets).mean())


def evaluation(name: str) -> Arrays:
    """The inputs of the evaluation samples, [S, ...] each."""
    return [torch.from_numpy(x[:, 0]) for x in samples(name).inputs]


def flat(name: str, inputs: Arrays) -> Tensor:
    """What the linear classifier sees: numbers as they are, of mean 0 and variance 1, and counts of words."""
    if name == "text":
        return functional.one_hot(inputs[0], text.VOCABULARY).sum(1).float()
    return torch.cat([x.flatten(1) for x in inputs], dim=1)


@pytest.mark.promise("A1")
@pytest.mark.promise("A2")
@pytest.mark.promise("A3")
@pytest.mark.promise("A4")
@pytest.mark.parametrize("name", NAMES)
def test_every_example_learns_and_beats_the_majority_and_a_linear_classifier(name: str) -> None:
    targets = torch.from_numpy(np.asarray(samples(name).targets))
    majority = float(targets.bincount().max()) / len(targets)
    learnt, linear = accuracy(name, *evaluation(name)), linear_accuracy(name, targets)
    assert majority < AT_MOST[name]
    assert linear < AT_MOST[name]
    assert learnt >= AT_LEAST[name], (learnt, linear, majority)


def linear_accuracy(name: str, target_S: Tensor) -> float:
    """On the evaluation samples, of logistic regression on as many samples as the examples train on."""
    inputs, label_S = DATA[name](4096, 0)
    x_SP, test_SP = flat(name, inputs), flat(name, evaluation(name))
    mean_P, std_P = x_SP.mean(0), x_SP.std(0) + 1e-3
    weight_PK = torch.zeros(x_SP.shape[1], int(label_S.max()) + 1, requires_grad=True)
    bias_K = torch.zeros(weight_PK.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weight_PK, bias_K], max_iter=50, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        scores_SK = (x_SP - mean_P) / std_P @ weight_PK + bias_K
        total = functional.cross_entropy(scores_SK, label_S) + 1e-2 * weight_PK.square().sum()
        total.backward()
        return total

    optimizer.step(loss)  # type: ignore[arg-type]  # torch wants a closure of a float, and documents one of a tensor
    return float((((test_SP - mean_P) / std_P @ weight_PK + bias_K).argmax(1) == target_S).double().mean())


@pytest.mark.promise("A4")
@pytest.mark.promise("A1")
def test_the_answer_about_a_text_needs_the_question_up_to_48_tokens_away() -> None:
    (w_SN,) = evaluation("text")
    other_SN = torch.cat([1 - w_SN[:, :1], w_SN[:, 1:]], dim=1)
    assert accuracy("text", other_SN) < 0.6


@pytest.mark.promise("A4")
def test_agreement_of_sound_and_picture_needs_both_and_the_start_of_the_sound() -> None:
    sound_SLC, picture_SFRC = evaluation("two_modalities")
    early, late = slice(0, two_modalities.TONE), slice(2 * two_modalities.TONE, None)
    for part, low, high in ((early, 0, 0.65), (late, 0.9, 1)):
        mixed_SLC = sound_SLC.clone()
        mixed_SLC[:, part] = sound_SLC.roll(1, 0)[:, part]
        assert low <= accuracy("two_modalities", mixed_SLC, picture_SFRC) <= high
    assert accuracy("two_modalities", sound_SLC, picture_SFRC.roll(1, 0)) < 0.65


@pytest.mark.promise("A2")
def test_the_fault_of_a_machine_needs_its_speed() -> None:
    x_SLC, features_SF = evaluation("sensors")
    assert accuracy("sensors", x_SLC, features_SF.roll(1, 0)) < 0.75
    load_SF = torch.stack([features_SF[:, 0], features_SF[:, 1].roll(1, 0)], dim=1)
    assert accuracy("sensors", x_SLC, load_SF) > 0.9


@pytest.mark.promise("A3")
def test_a_video_played_backwards_moves_the_other_way() -> None:
    (z_SFRC,) = evaluation("video")
    target_S = torch.from_numpy(np.asarray(samples("video").targets))
    with torch.no_grad():
        told_S = task("video").module(z_SFRC.flip(1)).argmax(1)
    assert (told_S == target_S + 1 - 2 * (target_S % 2)).double().mean() > 0.85


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_example_is_as_accurate_in_int8_files_of_three_targets(name: str, tmp_path: Path) -> None:
    verdict = pipeline.export(
        task(name), Plan.of((), ()), tmp_path / "out", Gates(max_metric_drop=0.02, min_delegated=0.95)
    )
    assert verdict.verdict == "pass", [a.reasons for a in verdict.artifacts]
    assert [a.target for a in verdict.artifacts] == ["executorch", "coreml", "tflite"]
