"""What the evaluation data cannot show is told, and of sound data nothing is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepass import source
from edgepass.judging.sampling import notes
from edgepass.series.fit import fit
from edgepass.task import Samples, synthetic


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
