"""Targets come as users have them, and what is no target is one sentence; build takes metrics as a file does."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import edgepass
from edgepass.errors import InputError
from edgepass.judging import score, verdict
from edgepass.judging.candidate import Candidate, Standard
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import Manifest, Metric, ModelInfo
from edgepass.samples import Samples, collect
from runtime_tests.judging.test_parity import record

ARGS = (torch.zeros(1, 3),)


def test_a_data_loader_and_pairs_of_every_kind_are_taken() -> None:
    x, y = torch.arange(21.0).reshape(7, 3), torch.arange(7)
    loader = DataLoader(TensorDataset(x, y), batch_size=1)
    nested = [((row[None],), int(label)) for row, label in zip(x, y, strict=True)]
    for given in (loader, nested, [(a[0], b) for a, b in nested]):
        samples = collect(given, ARGS, "here")
        assert samples.targets is not None
        np.testing.assert_array_equal(samples.inputs[0][:, 0], x.numpy())
        np.testing.assert_array_equal(samples.targets.ravel(), y.numpy())
    two = collect([(x[:1], x[1:2])] * 3, ARGS * 2, "here")
    assert (len(two.inputs), two.targets) == (2, None), "of a model with two arguments a pair is both"
    half = collect([((x[:1],), torch.ones(2, dtype=torch.bfloat16))], ARGS, "here")
    assert half.targets is not None
    assert half.targets.dtype == np.float32


@pytest.mark.parametrize(
    "target", ["cat", {"boxes": 1}, (torch.zeros(2), torch.zeros(3)), [[1], [2, 3]], object(), torch.ones(2).to("meta")]
)
def test_a_target_that_is_no_array_of_numbers_is_one_sentence(target: Any) -> None:
    with pytest.raises(InputError, match=r"here gives a target that is a .*, not one array of numbers"):
        collect([((torch.zeros(1, 3),), target)], ARGS, "here")


def test_build_refuses_a_metric_without_a_direction_before_it_writes(tmp_path: Path) -> None:
    pairs = [((torch.zeros(1, 3),), 0)] * 4
    with pytest.raises(InputError, match="nothing says whether a higher accuracy is better; let metric= give"):
        edgepass.build(nn.Linear(3, 2), ARGS, out=tmp_path / "o", evaluate=pairs, metric=accuracy)
    assert not (tmp_path / "o").exists()


def accuracy(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (outputs.argmax(-1) == target).double().mean()


@pytest.mark.export
@pytest.mark.parametrize(
    "given", [{"metric": accuracy, "higher_is_better": True}, {"metric": (accuracy, "higher")}, {}]
)
def test_build_scores_a_model_as_its_metric_says(given: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 4)
    x = torch.randn(63, 1, 3)
    pairs = [((row,), int(model(row).argmax())) for row in x]
    done = edgepass.build(
        model, ARGS, out=tmp_path / "o", targets=["onnx"], recipe="fp32", evaluate=pairs,
        bounds=Gates(max_metric_drop=0.01), **given,
    )  # fmt: skip
    (metric,) = [a.metric for a in done.artifacts]
    assert metric is not None
    assert (metric.name, metric.value, metric.higher_is_better, metric.not_worse) == ("accuracy", 1.0, True, 1.0)
    assert metric.constant is not None
    assert metric.constant < 1.0
    assert done.verdict == "pass", [a.reasons for a in done.artifacts]
    assert "63 samples cannot tell a drop in accuracy of 1 % from one of 3 %" in " ".join(done.notes)


@pytest.mark.export
def test_a_metric_that_a_file_s_outputs_break_fails_the_file_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    nn.init.constant_(other.bias, 1e6)
    torch.export.save(torch.export.export(other, ARGS), tmp_path / "other.pt2")

    def careful(outputs: torch.Tensor, target: torch.Tensor) -> float:
        if outputs.max() > 1e3:
            raise ValueError("no such output")
        return float((outputs - target).abs().mean())

    x = torch.randn(7, 1, 3)
    samples = Samples(inputs=[x.numpy()], targets=np.zeros((7, 2), np.float32))
    with torch.inference_mode():
        reference = [model(x).numpy()]
    standard = Standard(samples=samples, reference=reference, score=score.of((careful, "lower"), "here"))
    candidate = Candidate(path=tmp_path / "other.pt2", target="eager", runtime="eager", recipe=None)
    record, _ = verdict.judge(candidate, standard, Gates(max_metric_drop=0.5))
    assert record.verdict == "fail"
    assert record.metric is not None
    assert record.metric.value > 1e300
    assert any("careful" in note and "ValueError: no such output" in note for note in record.notes)


def test_a_folder_is_scored_again_by_the_metric_that_it_was_made_with() -> None:
    def made(name: str) -> Manifest:
        metric = Metric(name=name, reference=1.0, value=1.0, higher_is_better=True, samples=1)
        model = ModelInfo(name="m", source="m", inputs=[], outputs=[], parameters=0)
        return Manifest(
            verdict="pass", model=model, versions={}, seed=0, gates={}, data=[], artifacts=[record(metric=metric)]
        )

    mine = score.of((accuracy, "higher"), "here")
    forecaster = replace(score.named("mse"), levels=(0.5,), scale=(2.0,))
    f1 = score.again(None, made("f1"))
    assert f1 is not None
    assert (f1.name, f1.higher_is_better) == ("f1", True)
    assert score.again(mine, made("accuracy")) is mine, "a function of that name is the user's own"
    assert score.again(mine, made("theirs")) is mine, "nobody knows what theirs was"
    assert score.again(forecaster, made("mae")) == replace(score.named("mae"), levels=(0.5,), scale=(2.0,))
