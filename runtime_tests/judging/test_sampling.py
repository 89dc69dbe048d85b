"""What the evaluation data cannot show is told, and of sound data nothing is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepass import source
from edgepass.judging.sampling import notes
from edgepass.samples import Samples, synthetic
from edgepass.series.fit import fit

COLUMNS = """
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self, days):
        super().__init__()
        self.days, self.hours = nn.Embedding(days, 4), nn.Embedding(41, 4)

    def forward(self, ids):
        return self.days(ids[:, 0]) + self.hours(ids[:, 1])


def columns(): return Model(7)
def words(): return Model(41)
def get_args(): return (torch.tensor([[1, 40]]),)
"""


def noise(n: int, scale: float = 1.0, seed: int = 0, level: float = 0.0) -> Samples:
    generator = np.random.default_rng(seed)
    return Samples(inputs=[(level + generator.normal(0, scale, (n, 1, 5))).astype(np.float32)])


@given(st.sampled_from([1, 2, 63]), st.sampled_from([1, 2, 63]), st.floats(1e-3, 1e3), st.floats(0, 100))
def test_of_sound_data_nothing_is_told(n: int, calibration: int, scale: float, level: float) -> None:
    level *= scale
    assert notes(noise(calibration, scale, 1, level), noise(n, scale, 2, level)) == [] or min(n, calibration) == 2
    assert notes(None, noise(n, scale, 2, level)) == []


def test_evaluation_that_is_calibration_is_told() -> None:
    data = noise(63)
    assert "63 of 63 evaluation samples are calibration samples too" in notes(data, data)[0]
    some = Samples(inputs=[np.concatenate([data.inputs[0][:9], noise(54, seed=3).inputs[0]])])
    assert "9 of 63 evaluation samples are calibration samples too" in notes(data, some)[0]


def test_samples_that_repeat_are_told() -> None:
    same = Samples(inputs=[np.zeros((32, 1, 5), np.int64)])
    assert "all 32 evaluation samples are the same, so they show little" in notes(None, same)[0]
    few = Samples(inputs=[np.arange(32).reshape(32, 1) % 3])
    assert "only 3 of 32 evaluation samples differ" in notes(None, few)[0]
    assert notes(None, Samples(inputs=[np.zeros((1, 5))])) == []


@pytest.mark.parametrize(
    ("calibration", "evaluation", "said"),
    [
        (noise(64), noise(64, 0.01, 1), "input_0 varies less in the evaluation data (0.0"),
        (noise(64, 0.01), noise(64, 1, 1), "input_0 varies more in the evaluation data (0.9"),
        (noise(64, 0.1, level=300), noise(64, 0.1, 1, 300), "input_0 hardly varies in the evaluation data: by 0.09"),
        (None, noise(64, 0.1, 1, 300), "input_0 hardly varies in the evaluation data: by 0.09"),
    ],
)
def test_data_that_vary_otherwise_than_calibration_are_told(
    calibration: Samples | None, evaluation: Samples, said: str
) -> None:
    (note,) = notes(calibration, evaluation)
    assert note.startswith(said)


def test_noise_in_the_shapes_of_the_example_is_sound_but_not_for_integers() -> None:
    import torch

    assert notes(None, synthetic((torch.zeros(1, 3),), 0)) == []
    assert (
        "all 32 evaluation samples are the same"
        in notes(None, synthetic((torch.zeros(1, 3, dtype=torch.int64),), 0))[0]
    )


def test_integers_are_drawn_from_those_of_the_example() -> None:
    import torch

    ids = torch.tensor([[101, 7, 2023, 7, 102]])
    mask, flags, one = torch.tensor([[1, 1, 1, 1, 0]]), torch.tensor([[True, False]]), torch.full((1, 5), 3)
    made, again = (synthetic((ids, mask, flags, one, torch.zeros(2)), 5) for _ in range(2))
    drawn, *still, noise = made.inputs
    assert (drawn.dtype, drawn.shape) == (np.int64, (32, 1, 5))
    assert set(np.unique(drawn)) == {7, 101, 102, 2023}
    assert np.array_equal(drawn[0], ids.numpy())
    assert len(np.unique(drawn, axis=0)) > 16
    for example, kept in zip((mask, flags, one), still, strict=True):
        assert np.array_equal(kept, np.broadcast_to(example.numpy(), kept.shape)), "flags and one value stay"
    assert all(np.array_equal(x, y) for x, y in zip(made.inputs, again.inputs, strict=True))
    assert np.array_equal(noise, synthetic((torch.zeros(2),), 5).inputs[0])
    assert made.synthetic
    assert notes(None, made) == []


def test_a_model_that_takes_no_drawn_integers_is_given_those_of_the_example(tmp_path: Path) -> None:
    """Columns of which each has a vocabulary of its own."""
    path = tmp_path / "m.py"
    path.write_text(COLUMNS)
    found = source.load(f"{path}:columns").evaluation
    assert found is not None
    assert found.synthetic
    assert np.array_equal(found.inputs[0], np.broadcast_to([[[1, 40]]], (32, 1, 2)))
    found = source.load(f"{path}:words").evaluation
    assert found is not None
    assert set(np.unique(found.inputs[0])) == {1, 40}
    assert len(np.unique(found.inputs[0], axis=0)) > 1


@pytest.mark.export
def test_evaluation_on_the_training_file_is_told(tmp_path: Path) -> None:
    t = np.arange(400)
    values = np.sin(t / 5) + np.random.default_rng(0).normal(0, 0.1, 400)
    (tmp_path / "x.csv").write_text("a\n" + "\n".join(f"{v:.6f}" for v in values))
    (tmp_path / "y.csv").write_text("a\n" + "\n".join(f"{v:.6f}" for v in values[200:]))
    fit(tmp_path / "x.csv", horizon=4, lookback=24, preset="single-xs", epochs=0, out=tmp_path / "run")
    run = str(tmp_path / "run")
    for csv, said in (("x.csv", True), ("y.csv", False), (None, False)):
        found = source.load(run, evaluation=csv and str(tmp_path / csv))
        assert found.evaluation is not None
        told = notes(found.calibration, found.evaluation)
        assert any("what the model was trained on" in note for note in told) is said, told
    assert found.evaluation.overlap == 4
    assert source.load(run, evaluation_samples=3).evaluation.overlap == 1  # type: ignore[union-attr]
    assert replace(found.evaluation, overlap=4).spread(len(found.evaluation) // 2).overlap == 2
