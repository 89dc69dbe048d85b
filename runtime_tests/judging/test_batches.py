"""Files whose batch may vary: right at the size of the samples and wrong, or not to be had, at another."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import edgepass
from edgepass import catalog, exporters, pipeline
from edgepass.errors import CaptureError, InputError, RefusedError
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.judging import batches, parity, verdict
from edgepass.judging.candidate import Standard, Yardstick
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import ArtifactRecord
from edgepass.pipeline import Expected
from edgepass.plan import Plan
from edgepass.quantize import recipe as recipes
from edgepass.samples import Samples
from edgepass.task import Task
from edgepass.validation import validate
from runtime_tests.conftest import CONVERTERS_WARN
from runtime_tests.faults.subject import in_this_process

TARGETS = [t for t in catalog.names("targets") if catalog.load("targets", t).dynamic_batch is None]
MOST = 6
"""Sizes 1, 3 and 6; the samples come in twos."""


class Alone(nn.Module):
    """Each row by itself: [B, 4, 8] to [B, 4, 6]."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 6)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x_BTC)))


class Against(Alone):
    """Each row less the mean of those that it came with."""

    def forward(self, x_BTC: Tensor) -> Tensor:
        return super().forward(x_BTC - x_BTC.mean(0, keepdim=True) / 2)


class Folded(Alone):
    """The same for two rows, whose number has become a constant."""

    def forward(self, x_BTC: Tensor) -> Tensor:
        return super().forward(x_BTC - x_BTC.sum(0, keepdim=True) / 4)


def seeded(kind: type[nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind().eval()


def samples(count: int, seed: int, size: int = 2) -> Samples:
    generator = np.random.default_rng(seed)
    return Samples(inputs=[generator.normal(size=(count, size, 4, 8)).astype(np.float32)])


@dataclass(frozen=True)
class Trial:
    """A model, its samples, and what files of it are held against at other sizes."""

    kind: type[nn.Module]
    size: int = 2

    @cached_property
    def task(self) -> Task:
        evaluation = samples(32, 1, self.size)
        return Task(
            name="trial",
            source="trial",
            model=seeded(self.kind),
            args=evaluation.arguments()[0],
            calibration=samples(16, 0, self.size),
            evaluation=evaluation,
        )

    @cached_property
    def standard(self) -> Standard:
        assert self.task.evaluation
        reference = self.task.reference(self.task.evaluation)
        held = batches.of(self.task.evaluation, reference, MOST, self.task.reference)
        return Standard(samples=self.task.evaluation, reference=reference, score=None, batches=held)

    def job(self, recipe: str, most: int | None = MOST) -> Job:
        assert self.task.calibration
        return Job(
            capture(self.task.model, self.task.args, max_batch=most),
            recipes.read(recipe),
            self.task.calibration.arguments,
        )

    def record(
        self, target: str, job: Job, folder: Path, stick: Yardstick | None = None, *, graph: bool = True
    ) -> ArtifactRecord:
        """Of a file made by `job`, beside the graph of the same recipe of this model."""
        path = folder / f"{job.recipe.name}{exporters.target(target).suffix}"
        candidate = pipeline.convert(target, job, path, Expected(self.job(job.recipe.name).realised))
        candidate = replace(candidate, stated=(), graph=None, expected=candidate.expected if graph else None)
        return verdict.judge(candidate, self.standard, Gates(), stick)[0]


def test_sizes_are_one_an_odd_one_and_the_largest() -> None:
    assert [batches.sizes(most) for most in (2, 3, 4, 5, 8, 9, 64)] == [
        [1, 2],
        [1, 3],
        [1, 3, 4],
        [1, 3, 5],
        [1, 5, 8],
        [1, 5, 9],
        [1, 33, 64],
    ]


@given(st.integers(1, 63), st.integers(1, 7), st.integers(2, 67))
def test_rows_go_together_and_are_known_again(count: int, own: int, most: int) -> None:
    """A model that gives its rows back: whatever the sizes, each batch holds rows of the samples in their places."""
    given_ = Samples(inputs=[np.arange(count * own, dtype=np.float32).reshape(count, own, 1)])
    made = batches.of(given_, given_.inputs, most, lambda s: s.inputs)
    assert [b.size for b in made] == [size for size in batches.sizes(most) if size != own]
    for batch in made:
        assert batch.samples.inputs[0].shape[1:] == (batch.size, 1)
        assert len(batch.picked) >= batches.ROWS
        np.testing.assert_array_equal(batch.rows[0].ravel(), batch.picked)
        assert batch.alone is not None
        assert len(set(batch.picked.tolist())) == min(len(batch.picked), count * own)


def test_outputs_that_are_not_of_rows_are_held_call_by_call() -> None:
    """One has the batch second, one is a mean over it."""

    def model(given_: Samples) -> list[np.ndarray]:
        (x,) = given_.inputs
        return [np.swapaxes(x, 1, 2), x.mean(1)]

    few = samples(32, 0)
    own = model(few)
    for batch in batches.of(few, own, MOST, model):
        assert batch.alone is None
        right = batches.compare(batch, batch.reference, own, [], None, Path("file"), "float32")
        assert right.parity
        assert right.parity.centred_db == parity.SQNR_CAP_DB
        wrong = batches.compare(
            batch, [batch.reference[0], -batch.reference[1]], own, [], None, Path("file"), "float32"
        )
        assert wrong.parity
        assert wrong.parity.centred_db is not None
        assert wrong.parity.centred_db < 0


def test_a_batch_too_large_to_try_is_told() -> None:
    few = samples(2, 0)
    with pytest.raises(InputError, match=r"a batch of 5000001 cannot be judged here: its inputs alone take .* GiB"):
        batches.of(few, few.inputs, 10_000_000, lambda s: s.inputs)


@pytest.mark.parametrize("most", [1, 0, -3, 2.5, True, "5"])
def test_the_largest_batch_is_a_whole_number_from_two_on(most: Any, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"max_batch is a whole number from 2 on, not .*; leave it out for a fixed batch"
    ):
        edgepass.build(nn.Linear(2, 2), (torch.zeros(1, 2),), out=tmp_path / "o", max_batch=most)


def test_a_single_number_has_no_batch(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def forward(self, x: Tensor, factor: Tensor) -> Tensor:
            return x * factor

    args, asked = (torch.ones(1, 2), torch.ones(())), {"targets": ["onnx"], "recipe": "fp32"}
    with pytest.raises(CaptureError, match="every argument needs a first dimension, and argument 1 is a single number"):
        edgepass.build(Scaled(), args, out=tmp_path / "o", max_batch=4, **asked)
    assert not (tmp_path / "o").exists()


@pytest.mark.export
@CONVERTERS_WARN
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", [Alone, Against])
def test_a_healthy_file_is_held_at_every_size(kind: type[nn.Module], target: str, tmp_path: Path) -> None:
    trial = Trial(kind)
    assert trial.task.calibration
    assert trial.task.evaluation
    made = edgepass.build(
        trial.task.model,
        trial.task.args,
        out=tmp_path / "o",
        targets=(target,),
        recipe="static_wi8_ai8",
        calibration=trial.task.calibration.arguments(),
        evaluate=trial.task.evaluation.arguments(),
        max_batch=MOST,
    )
    (record,) = made.artifacts
    assert record.verdict == "pass", record.reasons
    assert [b.size for b in record.batches] == [1, 3, MOST]
    for batch in record.batches:
        assert batch.parity
        assert batch.conversion
        assert batch.conversion.float32
        assert (batch.alone is not None) == bool(batch.apart) == (not batch.conversion.excess) == (kind is Alone)
    assert any(note.startswith("in batches of 1 and 3 and 6: ") for note in record.notes)
    assert (made.model.max_batch, made.model.batch) == (MOST, trial.size)
    assert made.model.inputs[0].shape == (None, 4, 8)


class Leftover(Alone):
    """The sixth row of a batch, where there is one, comes out a tenth too small."""

    def __init__(self) -> None:
        super().__init__()
        self.place_B11 = nn.Buffer(torch.tensor([1.0] * 5 + [0.9])[:, None, None])

    def forward(self, x_BTC: Tensor) -> Tensor:
        return super().forward(x_BTC) * self.place_B11[: x_BTC.shape[0]]


@pytest.mark.export
@CONVERTERS_WARN
@pytest.mark.parametrize("target", TARGETS)
class TestPlanted:
    """Right at the samples' own batch of two, and each fails by the size at which it is wrong."""

    @pytest.fixture(autouse=True)
    def _here(self) -> Iterator[None]:
        with in_this_process():
            yield

    def test_a_number_of_rows_that_became_a_constant(self, target: str, tmp_path: Path) -> None:
        record = Trial(Against).record(target, Trial(Folded).job("static_wi8_ai8"), tmp_path)
        assert record.verdict == "fail"
        for size in (1, 3, MOST):
            found = [reason for reason in record.reasons if reason.startswith(f"at a batch of {size}: ")]
            assert any("times that of the recipe's own graph" in reason for reason in found), record.reasons
        assert all(reason.startswith("at a batch of ") for reason in record.reasons)

    def test_a_float32_file_that_is_wrong_condemns_the_others(self, target: str, tmp_path: Path) -> None:
        path = tmp_path / f"float{exporters.target(target).suffix}"
        exporters.export(target, Trial(Folded).job("fp32"), path)
        trial = Trial(Against)
        stick = verdict.measure_float(path, exporters.target(target).runtime, trial.standard)
        record = trial.record(target, trial.job("static_wi8_ai8"), tmp_path, stick)
        assert record.verdict == "fail"
        assert all("of this target's float32 file is" in reason for reason in record.reasons)
        assert {reason.partition(": ")[0] for reason in record.reasons} == {f"at a batch of {n}" for n in (1, 3, MOST)}

    def test_one_row_of_the_largest(self, target: str, tmp_path: Path) -> None:
        """Nobody says what the recipe's graph gives; the same row alone does."""
        if target == "tflite":  # which holds no table that is cut to the size
            with pytest.raises(RefusedError, match="tflite cannot hold a size that varies in this model"):
                Trial(Alone).record(target, Trial(Leftover).job("static_wi8_ai8"), tmp_path)
            return
        record = Trial(Alone).record(target, Trial(Leftover).job("static_wi8_ai8"), tmp_path, graph=False)
        assert record.verdict == "fail"
        (reason,) = record.reasons
        assert reason.startswith(f"at a batch of {MOST}: conversion: the noise of output_0[5] is ")
        assert "times that of the same rows by themselves" in reason

    @pytest.mark.parametrize("most", [None, 5])
    def test_sizes_that_the_file_does_not_take(self, target: str, most: int | None, tmp_path: Path) -> None:
        """A batch that is burnt in, and one that ends too early; an open dimension of ONNX or TFLite has no end."""
        trial = Trial(Alone)
        record = trial.record(target, trial.job("fp32", most), tmp_path)
        refused = [] if target in ("onnx", "tflite") and most else [1, 3, MOST] if most is None else [MOST]
        assert [reason.partition(": ")[0] for reason in record.reasons] == [f"at a batch of {n}" for n in refused]
        assert (record.verdict == "pass") == (not refused)
        assert all(str(tmp_path) not in reason for reason in record.reasons)


@pytest.mark.export
@CONVERTERS_WARN
def test_a_folder_is_measured_again_at_every_size(tmp_path: Path) -> None:
    trial = Trial(Alone)
    made = pipeline.export(trial.task, Plan.of(("onnx",), ("static_wi8_ai8",), MOST), tmp_path / "o", Gates())
    assert made.verdict == "pass", [a.reasons for a in made.artifacts]

    def again(path: Path, **options: int) -> list[str]:
        found = validate(
            path, load=lambda model, before: trial.task, reference="trial", recipe=None, bounds=Gates(), **options
        )  # fmt: skip
        return [*found.reasons, *(reason for record in found.artifacts for reason in record.reasons)]

    assert again(tmp_path / "o") == []
    (file,) = (tmp_path / "o").glob("*.onnx")
    exporters.export("onnx", Trial(Leftover).job("static_wi8_ai8"), file)
    assert any(f"at a batch of {MOST}" in reason and "output_0[5]" in reason for reason in again(tmp_path / "o"))
    assert any("output_0[5]" in reason for reason in again(file, max_batch=MOST))
    assert again(file) == []  # nobody says that its batch may vary
