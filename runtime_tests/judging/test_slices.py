"""Parity per output and per slice: no offset and no large channel hides anything, and every corner is defined."""

import dataclasses
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgepass.judging import parity, recording
from edgepass.judging.candidate import Standard
from edgepass.judging.gates import Gates
from edgepass.judging.parity import SQNR_CAP_DB, Parity, compare
from edgepass.samples import Samples
from edgepass.task import Task
from runtime_tests.judging.test_parity import record

FLOAT_MAX = float(np.finfo(np.float64).max)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@given(st.integers(2, 63), st.integers(1, 13), st.floats(-1000, 1000), st.floats(0.001, 0.5))
def test_an_offset_is_no_signal(samples: int, width: int, offset: float, error: float) -> None:
    x = np.random.default_rng(samples).standard_normal((samples, 1, width))
    wrong = error * np.random.default_rng(width).standard_normal(x.shape)
    plain, lifted = compare(x, x + wrong), compare(x + offset, x + offset + wrong)
    assert lifted.centred_db == pytest.approx(plain.centred_db, abs=1e-3)


def test_the_mean_for_every_input_has_0_db() -> None:
    x = 300 + 0.2 * np.tanh(noise(64, 1))
    found = compare(x, np.broadcast_to(x.mean(0), x.shape))
    assert found.centred_db == pytest.approx(0, abs=1e-4)
    assert found.sqnr_db > 60


def test_a_dead_column_is_the_worst_slice() -> None:
    x = noise(63, 1, 5) * np.array([640, 640, 640, 640, 1], np.float32)
    y = x + noise(*x.shape, seed=1)
    y[..., 4] = 0
    found = compare(x, y)
    assert found.worst
    assert (found.worst.name, found.worst.scale) == ("output_0[..., 4]", "own spread")
    assert found.worst.centred_db == pytest.approx(0, abs=0.2)
    assert found.centred_db > 50


@pytest.mark.parametrize(
    ("shape", "axis", "index", "name", "taken"),
    [
        ((7,), 0, 4, "output_0[4]", np.s_[4]),
        ((1, 7), 1, 4, "output_0[..., 4]", np.s_[..., 4]),
        ((3, 7), 0, 2, "output_0[2]", np.s_[2]),
        ((1, 5, 7), 1, 3, "output_0[:, 3]", np.s_[:, 3]),
        ((1, 3, 5, 7), 2, 3, "output_0[:, :, 3]", np.s_[:, :, 3]),
    ],
)
def test_a_slice_is_named_as_one_would_take_it(
    shape: tuple[int, ...], axis: int, index: int, name: str, taken: Any
) -> None:
    x = noise(13, *shape)
    y = x.copy()
    place = (slice(None), *(slice(None) for _ in range(axis)), index)
    y[place] = 0
    found = compare(x, y)
    assert found.worst
    assert found.worst.name == name
    assert not y[0][taken].any()


def test_a_slice_that_is_constant_in_the_samples_is_held_against_the_whole_output() -> None:
    x = noise(64, 1, 5)
    x[..., 2] = 3.0
    y = x.copy()
    y[..., 2] += 0.01
    (output,) = compare(x, y).outputs
    assert output.worst
    assert (output.worst.name, output.worst.scale, output.constant) == ("output_0[..., 2]", "output's spread", 1)
    spread = float(np.square(x - x.mean(0)).sum()) / 5
    assert output.worst.centred_db == pytest.approx(10 * np.log10(spread / (64 * 0.01**2)), abs=1e-3)


@given(st.floats(-140, 0), st.integers(2, 7), st.floats(-3, 3))
def test_a_slice_far_below_the_rest_is_as_good_as_constant(below_db: float, width: int, size: float) -> None:
    """Of a spread of 1: a column of 0…1 beside 0…640 is 56 dB below, and is held against its own."""
    x = noise(63, 1, width) * np.float32(10.0**size)
    x[..., 1] *= np.float32(10 ** (below_db / 20))
    y = x.copy()
    y[..., 1] = x[..., 1].mean()
    (output,) = compare(x, y).outputs
    spread = np.square(x - x.mean(0)).astype(np.float64).sum((0, 1))
    seen = 10 * np.log10(spread[1] / spread.mean()) > -parity.FLOOR_DB
    assert output.worst
    assert (output.worst.name, output.constant) == ("output_0[..., 1]", 0 if seen else 1)
    assert output.worst.scale == ("own spread" if seen else "output's spread")
    assert output.worst.centred_db == pytest.approx(0, abs=1e-3) if seen else output.worst.centred_db >= parity.FLOOR_DB


def test_a_column_beside_one_that_float32_cannot_tell_from_a_constant_is_held_against_its_own_spread() -> None:
    x = np.concatenate([np.full((64, 1, 4), 1e6), np.random.default_rng(0).random((64, 1, 1))], -1).astype(np.float32)
    y = x.copy()
    y[..., 4] = x[..., 4].mean()
    (output,) = compare(x, y).outputs
    assert output.whole
    assert output.worst
    assert output.whole.scale == "level"
    assert (output.worst.name, output.worst.scale) == ("output_0[..., 4]", "own spread")


def test_slices_of_which_nothing_is_known_are_told_once_for_all_files() -> None:
    x = noise(64, 1, 5) * np.float32(640)
    told = "in these samples, so nothing is known of how a file follows {}"
    assert parity.notes(compare(x, x)) == []
    x[..., 2] = 1.0
    y = x.copy()
    y[..., 2] = 0.0
    found = compare(x, y)
    assert found.outputs[0].slices == 5
    assert parity.notes(found) == [f"1 of 5 slices of output_0 is as good as constant {told.format('it')}"]
    x[..., 4] = 0.0
    assert parity.notes(compare(x, y)) == [f"2 of 5 slices of output_0 are as good as constant {told.format('them')}"]
    for still in (np.full((64, 1, 3), 5.0), np.zeros(64), np.full(64, 5.0)):
        assert parity.notes(compare(still, still)) == [f"output_0 is as good as constant {told.format('it')}"]
    assert parity.notes(compare(x[:1], y[:1])) == []
    assert parity.notes(compare(np.ones((7, 3), np.int64), np.ones((7, 3), np.int64))) == []


def test_the_manifest_tells_it() -> None:
    x = np.concatenate([640 * noise(64, 1, 4), np.ones((64, 1, 1), np.float32)], -1)
    y = np.round(x / 5) * 5  # which is 0 in the last column
    samples = Samples(inputs=[noise(64, 1, 3)])
    standard = Standard(samples=samples, reference=[x], score=None)
    task = Task(name="m", source="m.py", model=torch.nn.Linear(3, 5), args=(torch.zeros(1, 3),), evaluation=samples)
    files = [record(parity=compare(x, y)), record(parity=None), record(parity=compare(x, x))]
    for records in files[:2], files, files[1:]:
        found = [note for note in recording.manifest_of(task, standard, records, Gates()).notes if "constant" in note]
        assert found == parity.notes(compare(x, x))
        assert len(found) == 1
    assert recording.manifest_of(task, standard, files[1:2], Gates()).notes == []


def test_an_output_that_is_constant_in_the_samples_is_held_against_its_level() -> None:
    x = np.full((64, 1, 3), 5.0, np.float32)
    (output,) = compare(x, x * 1.001).outputs
    assert output.whole
    assert output.whole.scale == "level"
    assert output.whole.centred_db == pytest.approx(60, abs=0.1)
    assert output.constant == 3


def test_what_float32_does_not_resolve_is_constant() -> None:
    """300 + 1e-6 x in float32 is 300: a unit in the last place there is 3e-5."""
    x = noise(64, 1, 3)
    for step, scale in ((1e-6, "level"), (1e-4, "level"), (1e-2, "own spread")):
        level = (300 + step * x).astype(np.float32)
        whole = compare(level, np.nextafter(level, np.float32(0))).outputs[0].whole
        assert whole
        assert whole.scale == scale
        assert whole.centred_db > 20


@given(st.floats(1e-20, 1e3), st.integers(1, 5))
def test_zero_throughout_is_held_against_one(error: float, width: int) -> None:
    x = np.zeros((13, 1, width), np.float32)
    found = compare(x, np.full_like(x, error))
    assert found.outputs[0].whole
    assert found.outputs[0].whole.scale == "one"
    assert found.centred_db == pytest.approx(min(SQNR_CAP_DB, -20 * np.log10(np.float32(error))), abs=1e-3)
    assert found.sqnr_db == pytest.approx(found.centred_db)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_equal_in_one_place_and_the_worst_in_any_other(bad: float) -> None:
    x = noise(63, 1, 7)
    x[5, 0, 3] = bad
    good = compare(x, x)
    assert (good.max_abs, good.sqnr_db, good.centred_db, good.cosine) == (
        0.0, SQNR_CAP_DB, SQNR_CAP_DB, pytest.approx(1)
    )  # fmt: skip
    near = x + np.float32(0.001)
    assert compare(x, near).centred_db == pytest.approx(60, abs=1)
    for y in (np.where(np.isfinite(x), x, 0), -x if np.isinf(bad) else np.where(np.isfinite(x), x, np.inf)):
        found = compare(x, y)
        assert (found.max_abs, found.sqnr_db, found.centred_db) == (FLOAT_MAX, -SQNR_CAP_DB, -SQNR_CAP_DB)
        assert found.worst
        assert found.worst.centred_db == -SQNR_CAP_DB
    assert msgspec.json.decode(msgspec.json.encode(compare(x, near)), type=Parity) == compare(x, near)


def test_one_sample_has_no_centred_figure() -> None:
    x = noise(1, 4, 3)
    found = compare(x, x * 1.1)
    assert found.centred_db is None
    assert found.worst is None
    assert found.sqnr_db == pytest.approx(20, abs=0.01)


@pytest.mark.parametrize("shape", [(13, 0), (13, 1, 0, 5), (2, 0)])
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_])
def test_an_empty_output_is_equal(shape: tuple[int, ...], dtype: type) -> None:
    x = np.zeros(shape, dtype)
    found = compare(x, x)
    assert (found.max_abs, found.sqnr_db, found.cosine) == (0.0, SQNR_CAP_DB, 1.0)
    for agreement in (found.outputs[0].agreement,):
        assert agreement is None or agreement.share == 1.0


def test_a_scalar_output_has_no_slice() -> None:
    x = noise(13)
    (output,) = compare(x, x * 1.1).outputs
    assert output.whole
    assert output.worst is None
    assert compare(x, x * 1.1).worst == output.whole


def test_integers_are_judged_by_agreement() -> None:
    classes = np.random.default_rng(0).integers(0, 1000, (64, 1))
    (off,) = compare(classes, classes + 1).outputs
    assert off.agreement
    assert (off.agreement.share, off.whole, off.worst) == (0.0, None, None)
    flipped = classes.copy()
    flipped[[3, 17, 40]] = 500
    (some,) = compare(classes, flipped).outputs
    assert some.agreement
    assert (some.agreement.differing, some.agreement.elements) == (3, 64)
    assert some.agreement.share == pytest.approx(0.953125)


def test_agreement_is_of_values_whatever_holds_them() -> None:
    x = np.array([[1, 0], [0, 1], [1, 1]], np.bool_)
    assert compare(x, x.astype(np.int32)).outputs[0].agreement == compare(x, x).outputs[0].agreement
    (output,) = compare(x, np.where(x, np.nan, 0.0)).outputs
    assert output.agreement
    assert output.agreement.differing == 4


@given(arrays(np.int64, st.tuples(st.integers(1, 13), st.integers(1, 3)), elements=st.integers(0, 3)))
def test_what_a_constant_would_miss_is_counted(x: np.ndarray) -> None:
    (output,) = compare(x, x).outputs
    assert output.agreement
    expected = sum(len(column) - np.unique(column, return_counts=True)[1].max() for column in x.T)
    assert output.agreement.constant == expected


def test_the_slice_that_agrees_least_is_named() -> None:
    x = np.random.default_rng(0).integers(0, 9, (63, 1, 5))
    y = x.copy()
    y[..., 3] = -1
    (output,) = compare(x, y).outputs
    assert output.worst_agreement
    assert (output.worst_agreement.name, output.worst_agreement.share) == ("output_0[..., 3]", 0.0)


def test_all_outputs_are_told_and_the_least_leads() -> None:
    x, y = noise(13, 1, 3), noise(13, 1, 7, seed=1)
    found = parity.of([x, y], [x * 1.001, y * 1.1])
    assert [o.name for o in found.outputs] == ["output_0", "output_1"]
    assert found.sqnr_db == found.outputs[1].sqnr_db == pytest.approx(20, abs=0.01)
    assert found.centred_db == min(o.whole.centred_db for o in found.outputs if o.whole)


@pytest.mark.parametrize("at_a_time", [1, 63, 997])
def test_large_outputs_are_compared_in_parts(at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = noise(13, 3, 7, 5)
    y = x + 0.1 * noise(13, 3, 7, 5, seed=1)
    whole = compare(x, y)
    monkeypatch.setattr(parity, "AT_A_TIME", at_a_time)
    parts = compare(x, y)
    assert parts.worst
    assert whole.worst
    assert parts.worst.name == whole.worst.name
    for a, b in zip(
        dataclasses.astuple(parts.outputs[0])[1:4], dataclasses.astuple(whole.outputs[0])[1:4], strict=True
    ):
        assert a == pytest.approx(b, rel=1e-12)
    assert parts.worst.centred_db == pytest.approx(whole.worst.centred_db, rel=1e-12)


def test_noise_of_each_sample_adds_up_to_that_of_each_slice() -> None:
    x = noise(13, 3, 1, 7)
    y = x + noise(13, 3, 1, 7, seed=1)
    powers = parity.powers(x, y)
    parts = parity.slices(powers, "output_0")
    sums = parity.noises(x, y)
    assert len(parts) == len(sums) == 1 + 3 + 7
    assert [s.shape for s in sums] == [(13,)] * 11
    assert sums[0].sum() == pytest.approx(powers.noise.sum())
    assert sums[4].sum() == pytest.approx(powers.noise[..., 0].sum())
