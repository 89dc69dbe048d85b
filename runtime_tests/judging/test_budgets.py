"""The two budgets: what a recipe costs, and what converter and runtime changed."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from edgepass import pipeline
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.judging import expected, gates, parity
from edgepass.judging.expected import Expected
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import ArtifactRecord, Conversion, Excess, Kept
from edgepass.quantize import recipe
from edgepass.samples import Samples
from edgepass.task import Task
from runtime_tests.judging.test_parity import record

Array = np.ndarray
NONE = Gates()


def noise(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def judged(reference: Array, actual: Array, bounds: Gates = NONE) -> tuple[str, list[str]]:
    return gates.judge(record(parity=parity.compare(reference, actual)), bounds)


def converted(*excess: Excess, float32: list[Kept] | None = None) -> ArtifactRecord:
    return record(conversion=Conversion(excess=list(excess), float32=float32 or [], samples=64))


def test_a_regressor_with_an_offset_is_judged_by_its_spread() -> None:
    """300 + 0.2 tanh: two values for 64 inputs, which the raw figure calls 60 dB."""
    x = (300 + 0.2 * np.tanh(noise(64, 1, 1))).astype(np.float32)
    y = np.where(x > 300, np.float32(300.4), np.float32(299.6))
    outcome, reasons = judged(x, y, Gates(min_sqnr=40))
    assert outcome == "fail"
    raw = r"\(60\.1 dB if its mean over the samples counted as signal\)"
    assert re.fullmatch(rf"loss: SQNR of output_0 is -\S+ dB, less than 40.0 dB {raw}", reasons[0])
    assert reasons[1].startswith("loss: the error of output_0 is as large as its signal (-")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_told_as_that(bad: float) -> None:
    x = noise(7, 1, 3)
    graph, file = x + 0.01 * noise(7, 1, 3, seed=1), x.copy()
    file[2, 0, 1] = bad
    told = "of the file holds NaN or infinity, and that of the float model does not"
    assert judged(x, file)[1] == [f"loss: output_0[..., 1] {told}"]
    found = gates.judge(converted(*expected.excess([x], [graph], [file])), Gates())[1]
    assert found[0].startswith(
        "conversion: the noise of output_0 is infinitely many times that of the recipe's own graph"
    )


def test_a_dead_column_fails_under_every_recipe() -> None:
    x = noise(64, 1, 5) * np.array([640, 640, 640, 640, 1], np.float32)
    y = x.copy()
    y[..., 4] = x[..., 4].mean()
    assert judged(x, y)[1] == ["loss: the error of output_0[..., 4] is as large as its signal (-0.0 dB)"]
    assert judged(x, y - 0.1 * x)[0] == "fail"
    assert judged(x, x * 1.1)[0] == "pass"


@given(st.integers(2, 63), st.integers(1, 7), st.floats(-1e3, 1e3))
def test_no_constant_passes(samples: int, width: int, constant: float) -> None:
    x = 100 + noise(samples, 1, width)
    assert judged(x, np.full_like(x, constant))[0] == "fail"
    assert judged(x, np.broadcast_to(x.mean(0), x.shape))[0] == "fail"


def test_classes_are_held_to_an_agreement() -> None:
    classes = np.random.default_rng(0).integers(0, 1000, (64, 1))
    outcome, reasons = judged(classes, classes + 1, Gates(min_agreement=0.9))
    assert (outcome, reasons[0]) == ("fail", "loss: agreement of output_0 is 0.0%, less than 90.0%")
    flipped = classes.copy()
    flipped[[3, 17, 40]] = 500
    assert judged(classes, flipped, Gates(min_agreement=0.9)) == ("pass", [])
    assert judged(classes, flipped, Gates(min_agreement=0.96))[1] == [
        "loss: agreement of output_0 is 95.3%, less than 96.0%"
    ]


def test_a_class_that_never_comes_is_no_agreement() -> None:
    rare = (np.arange(63) % 9 == 0).astype(np.int64)[:, None]
    assert judged(rare, np.zeros_like(rare))[1] == [
        "loss: output_0 agrees in 88.9%, no more often than a constant would"
    ]


def test_a_column_that_hardly_ever_changes_may_not_be_wrong_throughout() -> None:
    x = np.random.default_rng(0).random((64, 1, 10)) < 0.5
    x[..., 4] = False
    x[[7, 40], 0, 4] = True
    y = x.copy()
    y[..., 4] = True
    assert judged(x, y)[1] == ["loss: output_0[..., 4] agrees in 3.1%, no more often than a constant would"]
    y[..., 4] = False
    assert judged(x, y)[0] == "pass", "two of 64 are too few to tell"
    one = np.zeros((1, 1, 10, 64), np.int64)
    wrong = one.copy()
    wrong[:, :, 4] = 1
    assert judged(one, wrong)[1] == ["loss: output_0[:, 4] agrees in 0.0%, no more often than a constant would"]


def test_no_column_hides_a_dead_one_by_agreeing_less() -> None:
    x = np.random.default_rng(0).integers(0, 2, (64, 1, 7))
    x[..., :2] = 0
    x[::6, 0, 1] = 1
    y = x.copy()
    y[..., 1] = 0
    y[:30, 0, 0] = 1
    (output,) = parity.compare(x, y).outputs
    assert output.worst_agreement
    assert output.worst_agreement.name == "output_0[..., 1]"
    assert judged(x, y)[1] == ["loss: output_0[..., 1] agrees in 82.8%, no more often than a constant would"]


@given(st.integers(2, 63), st.integers(2, 9), st.integers(0, 2**32 - 1), st.data())
def test_a_column_of_integers_that_is_wrong_throughout_fails_and_one_that_flips_does_not(
    samples: int, classes: int, seed: int, data: st.DataObject
) -> None:
    generator = np.random.default_rng(seed)
    x = generator.integers(0, data.draw(st.integers(1, classes)), (samples, 1, 7))
    y = x.copy()
    y[..., 3] += 1
    assert (judged(x, y)[0] == "fail") == (samples >= parity.MANY)
    changing = np.stack([generator.permutation(samples) % classes for _ in range(7)], axis=1)[:, None]
    flipped = changing.copy()
    flipped[: 2 if samples < 20 else 4, 0, 3] += 1
    assert judged(changing, flipped)[0] == "pass"


def test_a_class_that_the_softmax_never_gives_is_no_signal() -> None:
    """At most 8e-9, which float16 holds as 0 or 6e-8."""
    scores = 3 * noise(64, 1, 10)
    scores[..., 9] -= 25
    x = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    assert 0 < x[..., 9].max() < 8e-9
    assert judged(x, x.astype(np.float16).astype(np.float32)) == ("pass", [])


def test_a_channel_that_hardly_wakes_is_no_signal_on_a_grid() -> None:
    x = np.maximum(noise(64, 1, 8), 0)
    x[..., 5] = 0
    x[11, 0, 5] = 1e-4
    step = x.max() / 255
    assert judged(x, np.round(x / step) * step) == ("pass", [])


def test_rounding_noise_beside_a_level_is_no_signal() -> None:
    """A level, and the sum of what is left once it is taken away: zero, but for the order of the sum."""
    rows = noise(64, 97) + 3 * noise(64, 1)
    level = rows.mean(1, keepdims=True)
    rest = rows - level
    x, y = (
        np.concatenate([level, total], 1)[:, None]
        for total in (rest.sum(1, keepdims=True), rest @ np.ones((97, 1), np.float32))
    )
    assert 1e-7 < np.abs(x[..., 1]).max() < 1e-4
    assert not np.array_equal(x, y)
    assert all(k.centred_db >= k.bound_db for k in expected.kept([x], [y]))
    assert judged(x, y) == ("pass", [])
    assert all(e.ratio <= e.bound for e in expected.excess([x], [x], [y]))


def test_one_sample_that_is_no_number_fails_too() -> None:
    x = noise(1, 1, 4)
    told = "loss: output_0 of the file holds NaN or infinity, and that of the float model does not"
    for bad in (np.nan, np.inf):
        outcome, reasons = judged(x, np.full_like(x, bad), Gates(min_sqnr=20))
        assert (outcome, reasons[0]) == ("fail", told)
    assert judged(x, x)[0] == "pass"
    assert judged(x * 0 + 3e38, x * 0 - 3e38)[0] == "pass", "wrong, but a number"
    assert judged(np.ones((3, 1), np.bool_), np.full((3, 1), np.nan))[1] == [told]


@pytest.mark.parametrize(
    ("reference", "bound", "sentence"),
    [
        (noise(1, 3), Gates(min_sqnr=20), "SQNR takes two evaluation samples or more, so its bound of 20.0 dB"),
        (np.arange(7)[:, None], Gates(min_sqnr=20), "SQNR is not for outputs of integers, so its bound of 20.0 dB"),
        (
            noise(7, 3),
            Gates(min_agreement=0.9),
            "agreement is for outputs of integers, or of classes where there are targets, so its bound of 90.0%",
        ),
    ],
)
def test_a_bound_that_does_not_fit_the_outputs_is_not_evaluated(reference: Array, bound: Gates, sentence: str) -> None:
    assert judged(reference, reference, bound) == ("not-evaluated", [f"{sentence} is not evaluated"])


def test_each_budget_says_what_failed_and_by_how_much() -> None:
    excess = Excess(name="output_0[..., 4]", file_db=20.7, expected_db=35.2, ratio=28.2, bound=4.5)
    assert gates.judge(converted(excess), Gates())[1] == [
        "conversion: the noise of output_0[..., 4] is 28.2 times that of the recipe's own graph, more than 4.5 times "
        "(20.7 dB, expected 35.2 dB)"
    ]
    kept = Kept(name="output_0", centred_db=18.4, bound_db=80.0)
    assert gates.judge(converted(float32=[kept]), Gates())[1] == [
        "conversion: output_0 of this target's float32 file is 18.4 dB, less than 80.0 dB"
    ]


def test_noise_of_the_graphs_own_size_is_no_excess() -> None:
    x = noise(64, 1, 33)
    graph, file = (x + 0.05 * noise(64, 1, 33, seed=seed) for seed in (1, 2))
    (whole, worst) = expected.excess([x], [graph], [file])
    assert whole.name == "output_0"
    assert whole.ratio == pytest.approx(1, abs=0.1)
    assert worst.ratio < worst.bound
    (whole, worst) = expected.excess([x], [graph], [file + 0.1 * x])
    assert whole.ratio > whole.bound
    assert whole.expected_db == pytest.approx(26, abs=0.5)


@pytest.mark.parametrize("samples", [2, 3, 8, 63])
def test_few_samples_widen_the_bound_and_never_narrow_it(samples: int) -> None:
    x = noise(samples, 1, 7)
    graph, file = (x + 0.05 * noise(samples, 1, 7, seed=seed) for seed in (1, 2))
    found = expected.excess([x], [graph], [file])
    assert all(e.ratio <= e.bound for e in found)
    assert all(e.bound >= expected.MULTIPLE for e in found)


def test_noise_that_a_float32_file_may_have_is_forgiven() -> None:
    x = noise(64, 1, 7)
    (whole, _) = expected.excess([x], [x], [x * np.float32(1 + 1e-6)])
    assert whole.ratio < 1
    (whole, _) = expected.excess([x], [x], [x * np.float32(1.01)])
    assert whole.ratio > whole.bound


def test_float16_may_round_within_an_operation_but_not_lose_a_weight() -> None:
    x = noise(64, 1, 7)
    graph, rounded = x + 1e-5 * noise(64, 1, 7, seed=1), x + 3e-4 * noise(64, 1, 7, seed=2)
    assert all(e.ratio < e.bound for e in expected.excess([x], [graph], [rounded], "float16"))
    assert all(e.ratio > e.bound for e in expected.excess([x], [graph], [rounded], "static"))
    assert all(e.ratio > e.bound for e in expected.excess([x], [graph], [0.99 * x], "float16"))


def test_halves_are_rounded_with_their_mean_where_the_graph_gives_halves() -> None:
    """As the probabilities of a sigmoid are: what they vary by is a small part of them."""
    x = 0.5 + 0.1 * noise(64, 1, 333)
    kept, halves = x + 5e-5 * noise(64, 1, 333, seed=1), x.astype(np.float16).astype(np.float32)
    file = x + 2.6e-4 * noise(64, 1, 333, seed=2)
    assert all(e.ratio < e.bound for e in expected.excess([x], [halves], [file], "float16"))
    for graph, scheme in (kept, "float16"), (halves, "static"):
        whole = expected.excess([x], [graph], [file], scheme)[0]
        assert whole.ratio > whole.bound


def test_a_file_is_no_noisier_than_its_graph_however_wide_its_sums_are() -> None:
    x = noise(64, 1, 7)
    graph, file = x + 2.5e-3 * noise(64, 1, 7, seed=1), x + 2.2e-2 * noise(64, 1, 7, seed=2)  # 52 and 33 dB
    assert all(e.ratio > e.bound for e in expected.excess([x], [graph], [file], "float16"))


def test_a_float16_graph_sums_as_its_target_does() -> None:
    torch.manual_seed(0)
    model = nn.Linear(512, 8).eval()
    samples = Samples(inputs=[noise(16, 1, 512)])
    (reference,) = Task(name="wide", source="test", model=model, args=(torch.zeros(1, 512),)).reference(samples)
    program = capture(model, (torch.zeros(1, 512),))
    of = {name: pipeline.expectations(Job(program, recipe.read(name))) for name in ("fp32", "fp16")}
    kept = {
        target: parity.compare(reference, of["fp16"](target).outputs(samples)[0]).sqnr_db
        for target in ("executorch", "onnx")
    }
    assert kept["executorch"] < kept["onnx"] - 15
    assert of["fp16"]("onnx") is of["fp16"]("tflite")
    assert of["fp32"]("executorch") is of["fp32"]("onnx")


def test_an_output_without_a_number_is_an_excess_only_where_the_graph_has_one() -> None:
    x = noise(8, 1, 3)
    broken = x.copy()
    broken[3, 0, 1] = np.nan
    assert expected.excess([x], [broken], [broken])[0].ratio == 0
    whole, worst = expected.excess([x], [x], [broken])
    assert whole.ratio > 1e300
    assert worst.ratio > 1e300
    assert np.isfinite([whole.ratio, whole.bound]).all()


def test_a_float32_file_is_asked_for_no_more_than_float32_resolves() -> None:
    x = noise(64, 1, 7)
    good, bad = x * np.float32(1 + 1e-6), x + 0.01 * noise(64, 1, 7, seed=1)
    assert all(k.centred_db >= k.bound_db == pytest.approx(80, abs=0.1) for k in expected.kept([x], [good]))
    assert expected.kept([x], [bad])[0].centred_db < 80
    level = (1e5 + x).astype(np.float32)
    moved = np.nextafter(level, np.float32(0))
    found = expected.kept([level], [moved])
    assert all(k.centred_db >= k.bound_db for k in found)
    assert 20 < found[0].bound_db < 45


def test_one_element_that_is_wrong_is_found_in_its_slice() -> None:
    """A pad that is off by one: the whole output would have 17 dB in a short one, and 40 in a long."""
    x = noise(64, 1, 997)
    y = x.copy()
    y[..., -1] = 0
    whole, worst = expected.kept([x], [y])
    assert worst.name == "output_0[..., 996]"
    assert worst.centred_db < 1
    assert whole.centred_db > 28


def test_integers_of_a_float32_file_agree_but_for_a_tie() -> None:
    x = np.arange(64)[:, None]
    y, z = x.copy(), x.copy()
    y[3], z[[3, 5]] = -1, -1
    for file, outcome in ((x, "pass"), (y, "pass"), (z, "fail"), (x + 1, "fail")):
        agreed = expected.agreed([x, noise(64, 3)], [file, noise(64, 3)])
        assert gates.judge(record(conversion=Conversion(float32_agreement=agreed)), Gates())[0] == outcome
    assert expected.excess([x], [x], [x + 1]) == []
    assert expected.kept([x], [x + 1]) == []


def test_no_thousand_columns_hide_one_that_a_float32_file_has_wrong() -> None:
    x = np.random.default_rng(0).integers(0, 2, (64, 1, 1000))
    y, z = x.copy(), x.copy()
    y[[3, 4, 5, 6], 0, 7] ^= 1
    z[[3, 4, 5, 6], 0, [7, 70, 700, 701]] ^= 1
    for file, outcome in ((y, "fail"), (z, "pass")):
        found = Conversion(float32_agreement=expected.agreed([x], [file]))
        assert gates.judge(record(conversion=found), Gates())[0] == outcome


def test_a_graph_is_run_once_and_one_that_cannot_run_says_why() -> None:
    made = []

    def graph() -> torch.nn.Module:
        made.append(torch.nn.Linear(3, 2))
        return made[-1]

    samples = Samples(inputs=[noise(5, 1, 3)])
    good = Expected(graph)
    assert good.outputs(samples)[0].shape == (5, 1, 2)
    assert good.outputs(samples) is good.outputs(samples)
    assert len(made) == 1
    assert good.note == ""
    bad = Expected(lambda: torch.nn.Linear(4, 2))
    assert bad.outputs(samples) == []
    assert bad.note.startswith("torch cannot run the recipe's own graph: ")
