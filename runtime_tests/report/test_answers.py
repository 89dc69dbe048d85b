"""The first screen: whether the model is good, what recipes cost and converters changed, what to ship, what next."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from edgepass.cli import commands, options
from edgepass.judging import gates
from edgepass.judging.manifest import DataInfo, Loss, Manifest, Metric
from edgepass.judging.parity import OutputParity, Parity, Slice
from edgepass.report import answers
from runtime_tests.report.manifests import a_passing


def beside(value: float, *, reference: float = 0.4, higher: bool = False) -> list[Metric]:
    return [Metric(name="mse: ridge", reference=reference, value=value, higher_is_better=higher, samples=256)]


def test_a_model_that_beats_its_baselines_is_told_by_how_much() -> None:
    found = answers.quality(a_passing())
    assert found.headline == "10 % less error than ridge"
    assert found.detail.startswith("mse 0.3842 against 0.4269, in squared standard deviations of each series")
    assert [bar.name for bar in found.bars] == ["this model", "ridge"]
    assert answers.standing(a_passing()).tone == "pass"


@pytest.mark.parametrize("value", [0.36, 0.4, 0.4001])
def test_no_plain_pass_stands_above_a_model_that_a_baseline_equals_or_beats(value: float) -> None:
    said = answers.standing(a_passing(baselines=beside(value)))
    assert said.tone == "caution"
    assert said.word == "The files are right, the model does not beat ridge"
    assert any("edgepass fit" in step.command for step in answers.steps(a_passing(baselines=beside(value))))


@pytest.mark.parametrize(("interval", "tone"), [(None, "pass"), ((0.01, 0.2), "pass"), ((-0.05, 0.2), "caution")])
def test_a_lead_that_may_be_chance_beats_nothing(interval: tuple[float, float] | None, tone: str) -> None:
    made = a_passing(baselines=[replace(b, interval=interval) for b in beside(0.43)])
    said, found = answers.standing(made), answers.quality(made)
    assert (said.tone, found.tone) == (tone, tone)
    assert ("256 samples do not tell the model in them from ridge" in said.sentence) == (tone == "caution")
    assert ("on 256 samples, which do not tell them apart." in found.detail) == (tone == "caution")


def test_higher_may_be_better() -> None:
    assert answers.quality(a_passing(baselines=beside(0.8, reference=0.88, higher=True))).tone == "pass"
    worse = answers.quality(a_passing(baselines=beside(0.9, reference=0.45, higher=True)))
    assert (worse.tone, worse.headline) == ("caution", "mse 0.45, ridge 0.9")


def test_noise_is_no_evidence() -> None:
    noise = [DataInfo(role="evaluation", sha256="0" * 64, rows=32, synthetic=True)]
    artifacts = [replace(a, metric=None) for a in a_passing().artifacts]
    made = a_passing(data=noise, baselines=[], artifacts=artifacts)
    assert answers.standing(made).word == "Pass, on made-up inputs"
    assert answers.quality(made).headline == "Not known"
    assert "--eval-data" in answers.steps(made)[0].command


def test_an_error_is_told_in_the_unit_of_the_series() -> None:
    made = a_passing()
    model = replace(made.model, columns=["demand [MWh]"], scales=[10.0])
    assert "an error of 6.198 MWh, root mean square" in answers.quality(replace(made, model=model)).detail


def test_the_smallest_file_is_shipped_that_passes_and_keeps_the_metric() -> None:
    int8, fp16 = a_passing().artifacts
    small = answers.choices(a_passing())
    assert [(c.target, c.record) for c in small] == [("executorch", int8)]
    assert small[0].why.startswith("the smallest that passes; ")
    assert int8.metric is not None
    costly = replace(int8, metric=replace(int8.metric, value=0.41))
    assert answers.choices(a_passing(artifacts=[costly, fp16]))[0].record == fp16
    allowed = replace(costly, bounds={"max_metric_drop": 0.2})
    assert answers.choices(a_passing(artifacts=[allowed, fp16]))[0].record == allowed
    failed = replace(int8, verdict="fail", reasons=["it is late"])
    assert answers.choices(a_passing(artifacts=[failed, fp16]))[0].why.startswith("the only file that passes")
    (none,) = answers.choices(a_passing(artifacts=[failed]))
    assert (none.record, none.why) == (None, "It is late.")


def test_a_file_that_a_baseline_beats_is_not_chosen_for_its_size() -> None:
    int8, fp16 = a_passing().artifacts
    made = a_passing(baselines=beside(0.385, reference=0.3842))
    assert made.artifacts == [int8, fp16]
    assert answers.choices(made)[0].record == fp16


def test_what_a_recipe_costs_is_beside_what_is_had_for_it() -> None:
    artifacts = [
        replace(a, loss=Loss(file_db=db, expected_db=db, samples=64), float_bytes=500_000)
        for a, db in zip(a_passing().artifacts, (40.0, 60.0), strict=True)
    ]
    found = answers.costs(a_passing(artifacts=artifacts))
    assert found.headline == "mse at most 0.62 % worse"
    assert found.columns == ("recipe", "mse worse", "outputs off", "size")
    assert [row.cells for row in found.rows] == [
        ("static_wi8_ai8", "+0.6 %", "1 %", "34 %"),
        ("fp16", "0 %", "0.1 %", "51 %"),
    ]
    assert "40.0 dB at worst" in found.detail
    perfect = [replace(a, metric=replace(a.metric, reference=0.0)) for a in artifacts if a.metric]
    assert answers.costs(a_passing(artifacts=perfect)).headline == "mse worse"


def outputs_of(*pairs: tuple[float, float]) -> Parity:
    """Parity of outputs with this raw and centred SQNR, as a comparison gives it."""
    parts = [
        Slice(name=f"output_{i}", centred_db=centred, ceiling_db=140.0, scale="own spread")
        for i, (_, centred) in enumerate(pairs)
    ]
    outputs = [
        OutputParity(name=part.name, max_abs=0.1, sqnr_db=raw, cosine=0.99, whole=part)
        for part, (raw, _) in zip(parts, pairs, strict=True)
    ]
    raw, centred = min(raw for raw, _ in pairs), min(centred for _, centred in pairs)
    return Parity(max_abs=0.1, sqnr_db=raw, cosine=0.99, samples=64, centred_db=centred, outputs=outputs)


@pytest.mark.parametrize(
    ("parity", "over"),
    [
        (outputs_of((40.0, 5.0)), True),  # a level is no signal
        (outputs_of((8.0, 12.0)), False),
        (outputs_of((40.0, 30.0), (35.0, 9.0)), True),
        (Parity(max_abs=0.1, sqnr_db=5.0, cosine=0.9, samples=1), False),  # not evaluated: a single sample
    ],
)
def test_accuracy_is_lost_where_the_gate_says_so(parity: Parity, *, over: bool) -> None:
    lossy = replace(a_passing().artifacts[0], parity=parity, metric=None, bounds={"min_sqnr": 10.0})
    verdict, reasons = gates.judge(lossy, gates.of(lossy.bounds))
    assert (verdict == "fail") == over
    lossy = replace(lossy, verdict=verdict, reasons=reasons)
    made = a_passing(artifacts=[lossy], verdict=verdict)
    assert [row.bad for row in answers.costs(made).rows] == [over]
    assert any("--recipe fp16" in step.command for step in answers.steps(made)) == over


@pytest.mark.parametrize("confident", [0.0, 1.0])
def test_a_drop_is_too_large_at_the_end_that_the_gate_holds(confident: float) -> None:
    metric = Metric(name="mse", reference=1.0, value=1.005, higher_is_better=False, samples=64, interval=(-0.001, 0.03))
    bounds = {"max_metric_drop": 0.01, "confident": confident}
    lossy = replace(a_passing().artifacts[0], metric=metric, bounds=bounds)
    assert (gates.judge(lossy, gates.of(bounds))[0] == "fail") == bool(confident)
    assert [row.bad for row in answers.costs(a_passing(artifacts=[lossy])).rows] == [bool(confident)]


def test_the_next_command_can_be_run_as_it_stands() -> None:
    assert [s.command for s in answers.steps(a_passing(), "out/")] == [
        "edgepass validate out/",
        "edgepass benchmark out/",
    ]
    own = a_passing(model=replace(a_passing().model, source="net.py:get_model"))
    assert answers.steps(own, "out/")[0].command == "edgepass validate out/ --trust"
    int8 = a_passing().artifacts[0]
    lossy = replace(
        int8, verdict="fail", reasons=["metric drop is 9 %, more than 1 %"], bounds={"max_metric_drop": 0.001}
    )
    model = replace(a_passing().model, source="my models/net.py:get_model")
    step = answers.steps(a_passing(artifacts=[lossy], verdict="fail", model=model), "out/")[0]
    assert step.command == (
        "edgepass export 'my models/net.py:get_model' -o out/ --overwrite --target executorch --recipe static_wi8_ai8 "
        "--seed 7 --max-metric-drop 2% --min-sqnr 20dB --max-latency 1200us --max-peak-memory 1000000B --recipe fp16"
    )
    assert answers.steps(a_passing(artifacts=[])) == []


def exports(made: Manifest) -> list[dict[str, Any]]:
    """What `edgepass export` understands of each command to run next that calls it."""
    said = [shlex.split(step.command) for step in answers.steps(made, "out/")]
    return [commands.export.make_context("export", words[2:]).params for words in said if words[1] == "export"]


def asking(made: Manifest) -> Manifest:
    """Of files that are right and that nobody has measured: to export again with data and a bound is advised."""
    return replace(made, verdict="pass", artifacts=[replace(a, metric=None) for a in made.artifacts], baselines=[])


def lossy(made: Manifest, **changes: Any) -> Manifest:
    """Of files that lost more than they may: to export again with another recipe is advised."""
    files = [
        replace(a, verdict="fail", reasons=["too lossy"], bounds={"max_metric_drop": -1.0}) for a in made.artifacts
    ]
    return replace(made, verdict="fail", artifacts=files, **changes)


@pytest.mark.parametrize("advised", [asking, lossy])
def test_a_next_export_asks_for_no_less_than_the_folder_has(advised: Callable[[Manifest], Manifest]) -> None:
    own = replace(a_passing().artifacts[0], recipe="mine")
    weights = replace(own, recipe="weight_only_wi8_afp32", target="tflite")
    bounds = {
        "max_metric_drop": 0.57,
        "min_sqnr": 12.5,
        "min_agreement": 1.0,
        "max_size": 12_345_678_901.0,
        "max_peak_memory": 3e5,
        "max_latency": 0.25,
        "min_delegated": 1e-7,
        "confident": 1.0,
    }
    model = replace(a_passing().model, source="net.py:get_model", max_batch=6)
    given = [DataInfo(role="calibration", sha256="0" * 64, rows=600)]
    made = a_passing(model=model, artifacts=[own, weights], gates=bounds, recipes={"mine": "..."}, data=given, seed=3)
    (found,) = exports(advised(made))
    assert found["model"] == "net.py:get_model"
    assert found["targets"] == ("executorch", "tflite")
    assert found["recipes"][:2] == ("mine.toml", "weight_only_wi8_afp32")
    assert (found["max_batch"], found["seed"], found["calibration_samples"]) == (6, 3, 600)
    assert found["overwrite"]
    assert options.gates(found).set() == pytest.approx(bounds, rel=1e-12)


@pytest.mark.parametrize(
    ("source", "trained", "said"),
    [
        ("runs/v1.2", True, "runs/v1.2"),
        ("v1.2", True, "v1.2"),
        ("my.run", True, "my.run"),
        ("my.run@2", True, "my.run@2"),
        ("my runs/v1", True, "my runs/v1"),
        ("net.pt2", False, "net.pt2"),
        ("preset.toml", False, "preset.toml"),
        ("single-s@2", False, "single-s@2"),
        ("net.v2.py:get_model@1", False, "net.v2.py:get_model@1"),
        ("net.Net", False, "MODEL"),
        ("__main__.make.<locals>.Net", False, "MODEL"),
    ],
)
def test_a_model_is_named_as_it_was(source: str, said: str, *, trained: bool) -> None:
    data = [DataInfo(role="train", sha256="0" * 64, rows=600)] if trained else []
    made = a_passing(model=replace(a_passing().model, source=source), data=data)
    assert exports(asking(made))[0]["model"] == said
    assert exports(asking(made))[0]["seed"] == (0 if trained else 7)  # which a RUN/ folder has itself


@pytest.mark.parametrize(
    ("source", "synthetic", "named"),
    [
        ("net.pt2", False, True),
        ("net.Net", False, True),
        ("single-s", False, True),
        ("single-s", True, False),
        ("net.py:get_model", False, False),
    ],
)
def test_data_that_no_model_brings_are_asked_for_again(source: str, *, synthetic: bool, named: bool) -> None:
    data = [DataInfo(role=r, sha256="0" * 64, rows=256, synthetic=synthetic) for r in ("calibration", "evaluation")]
    files = [replace(a_passing().artifacts[0], bounds={"max_metric_drop": -1.0})]
    made = lossy(a_passing(model=replace(a_passing().model, source=source), data=data, artifacts=files))
    (found,) = exports(made)
    assert (found["calibration_data"], found["eval_data"]) == (("F", "F") if named else (None, None))
    assert found["calibration_samples"] == 256
    assert found["recipes"] == ("static_wi8_ai8", "fp16")
