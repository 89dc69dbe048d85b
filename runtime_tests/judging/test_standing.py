"""validate says each figure of a manifest that no longer holds, and lets stand what only noise has moved."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnx.numpy_helper
import pytest
from safetensors.numpy import load_file, save

from edgepass.errors import BAD_INPUT, GATE_FAILED, NOT_EVALUATED, OK
from edgepass.judging import files, manifest, standing
from edgepass.judging.manifest import (
    ArtifactRecord,
    AtBatch,
    Conversion,
    Excess,
    Loss,
    Metric,
    Ranking,
    WeightValues,
)
from edgepass.judging.parity import Agreement, OutputParity, Parity, Slice
from runtime_tests.conftest import Done
from runtime_tests.report.manifests import an_artifact

Cli = Callable[..., Done]

MODEL = """
import torch
from torch import nn


def get_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 16), nn.ReLU(), nn.Linear(16, 3))


def get_args():
    return (torch.zeros(1, 7),)


def get_eval_data():
    generator = torch.Generator().manual_seed(0)
    samples = [torch.randn(1, 7, generator=generator) for _ in range(13)]
    return [((x,), x[:, :3] * 0.5) for x in samples]
"""


@pytest.fixture
def out(edgepass: Cli, tmp_path: Path) -> Path:
    (tmp_path / "small.py").write_text(MODEL)
    made = edgepass(
        "export", f"{tmp_path}/small.py:get_model", "-o", tmp_path / "o", "--target", "onnx", "--recipe", "fp32"
    )
    assert made.code == OK, made.err
    return tmp_path / "o"


def edited(out: Path, change: Callable[[Any], None]) -> None:
    path = out / manifest.FILE
    made = json.loads(path.read_text())
    change(made)
    path.write_text(json.dumps(made))


@pytest.mark.export
def test_every_figure_that_no_longer_holds_is_said(edgepass: Cli, out: Path) -> None:
    sound = edgepass("validate", out, "--trust")
    assert sound.code == OK, sound.out + sound.err

    def lies(made: Any) -> None:
        made["model"]["parameters"] += 1
        (record,) = made["artifacts"]
        record["bytes"] -= 1
        record["target"] = "nonsense"
        record["parity"]["sqnr_db"] -= 50
        record["metric"]["value"] *= 0.9
        record["latency"]["p50_us"] *= 1e4

    edited(out, lies)
    golden = load_file(out / manifest.GOLDEN)
    golden["reference_0"] = golden["reference_0"] + np.float32(0.01)
    (out / manifest.GOLDEN).write_bytes(save(golden))
    (out / "more.onnx").write_bytes(b"")
    done = edgepass("validate", out, "--trust", "--json")
    assert done.code == GATE_FAILED, done.err
    found = json.loads(done.out)
    said = " ".join([*found["reasons"], *found["artifacts"][0]["reasons"]])
    for sentence in (
        "other parameters of the model",
        "its size is",
        "of the target 'nonsense', and it is of 'onnx'",
        "its SQNR is",
        "that mse is",
        "its median latency",
        "golden.safetensors holds for reference_0 other numbers than the model gives",
        "does not list: more.onnx",
    ):
        assert sentence in said, (sentence, said)


@pytest.mark.export
def test_the_figures_that_judge_are_said(edgepass: Cli, out: Path) -> None:
    def lies(made: Any) -> None:
        (record,) = made["artifacts"]
        record["parity"]["centred_db"] -= 50
        record["parity"]["outputs"][0]["whole"]["centred_db"] -= 40
        record["loss"].update(file_db=30.0, expected_db=30.0)
        record["metric"].update(higher_is_better=True, interval=[-0.5, 0.5], not_worse=0.5)
        record["audit"]["coverage"] = 0.5

    edited(out, lies)
    done = edgepass("validate", out, "--trust", "--json")
    assert done.code == GATE_FAILED, done.err
    said = json.loads(done.out)["artifacts"][0]["reasons"]
    for sentence, reason in zip(
        (
            "its audited coverage is",
            "a higher mse is better",
            "its centred SQNR is",
            "its centred SQNR of output_0 is",
            "its loss is",
            "the 95 % interval of its drop",
            "its share of samples that are not worse is",
            "the expected loss is",
        ),
        said,
        strict=True,
    ):
        assert sentence in reason, said


@pytest.mark.export
def test_the_gates_of_the_manifest_are_applied_again(edgepass: Cli, out: Path) -> None:
    edited(out, lambda made: made["gates"].update(max_size=100.0))
    done = edgepass("validate", out, "--trust")
    assert done.code == GATE_FAILED
    assert "more than 100" in " ".join(done.out.split())
    edited(out, lambda made: made["gates"].update(max_size=100.0, max_sise=1.0))
    assert "no gate 'max_sise'" in edgepass("validate", out, "--trust").sentence


@pytest.mark.export
def test_an_export_that_failed_by_what_is_not_asked_again_stays_failed(edgepass: Cli, out: Path) -> None:
    """By a rule on the conversion; a bound of the user's is another matter, and so is what is asked again."""
    why = "conversion: output_0 of this target's float32 file is 20.0 dB, less than 80.0 dB"
    edited(out, lambda made: made["artifacts"][0].update(verdict="fail", reasons=[why]))
    done = edgepass("validate", out, "--trust", "--json")
    assert done.code == GATE_FAILED, done.out
    (found,) = json.loads(done.out)["artifacts"]
    assert found["reasons"] == [f"it failed when it was exported, by what is not asked again here: {why}"]
    edited(out, lambda made: made["artifacts"][0].update(reasons=["file size is 8 kB, more than 1 kB"]))
    assert edgepass("validate", out, "--trust").code == OK


NOISE = "conversion: the noise of output_0 is 9 times that of the recipe's own graph, more than 4 times"
WEIGHT = "conversion: the file holds another weight than the graph: 0.weight, it is transposed"
OPERATION = "conversion: the file computes something else than the graph at body: sub: it is off by 9 steps"
BELIEVED = "the float32 model cannot be had as a file of onnx, so this one is not believed: m.onnx does not run"
TOGETHER = "conversion: the noise of output_0 is 9 times that of the same rows by themselves, more than 4 times"


@pytest.mark.parametrize(
    ("reason", "kept"),
    [
        (NOISE, False),
        (WEIGHT, False),
        (OPERATION, True),
        (BELIEVED, True),
        ("conversion: in the words of another version", True),
        ("loss: SQNR of output_0 is 3.0 dB, less than 15.0 dB", False),
        (f"at a batch of 3: {TOGETHER}", False),
        (f"at a batch of 3: {OPERATION}", True),
        ("at a batch of 3: the file takes 2 rows", False),
        ("at a batch of 5: the file takes 2 rows", True),
    ],
)
def test_a_reason_is_kept_where_nothing_asks_for_it_again(reason: str, kept: bool) -> None:
    excess = Excess(name="output_0", file_db=36.0, expected_db=36.1, ratio=1.02, bound=1.6)
    asked = Conversion(excess=[excess], weights=WeightValues(compared=2))
    found = replace(an_artifact("onnx", "fp32"), conversion=asked, batches=[AtBatch(size=3, rows=6, apart=[excess])])
    said = replace(found, verdict="fail", reasons=["file size is 8 kB, more than 1 kB", reason])
    told = list(standing.of_record(said, found, changed=[], same_host=True))
    assert told == ([f"it failed when it was exported, by what is not asked again here: {reason}"] if kept else [])
    assert not list(standing.of_record(replace(said, verdict="pass"), found, changed=[], same_host=True))


SLICE = Slice(name="output_0", centred_db=35.0, ceiling_db=150.0, scale="own spread")
RECORD = replace(
    an_artifact("executorch", "static_wi8_ai8"),
    parity=Parity(
        max_abs=0.1,
        sqnr_db=36.0,
        cosine=1.0,
        samples=64,
        centred_db=35.0,
        outputs=[
            OutputParity(name="output_0", max_abs=0.1, sqnr_db=36.0, cosine=1.0, whole=SLICE),
            OutputParity(
                name="output_1",
                max_abs=1.0,
                sqnr_db=40.0,
                cosine=1.0,
                agreement=Agreement(name="output_1", differing=3, elements=64, constant=40),
            ),
        ],
    ),
    ranking=Ranking(name="output_0", answers=64, flips=2),
    loss=Loss(file_db=35.0, expected_db=35.2, samples=64),
    metric=Metric(
        name="mse", reference=2.0, value=2.02, higher_is_better=False, samples=64, interval=(0.002, 0.02), not_worse=0.4
    ),
)


def changed(path: str, value: Any) -> ArtifactRecord:
    """The record with the figure at `path`, "metric.value", another."""
    made = msgspec.to_builtins(RECORD)
    at = made
    *way, last = path.split(".")
    for step in way:
        at = at[int(step) if step.isdecimal() else step]
    at[last] = value
    return msgspec.convert(made, ArtifactRecord)


EVERYWHERE, HERE, ON_DATA, CALIBRATED = (True, True), (True, False), ["evaluation"], ["calibration"]


@pytest.mark.parametrize(
    ("path", "lie", "truth", "hosts", "data"),
    [
        ("parity.centred_db", 37.0, 35.3, EVERYWHERE, ON_DATA),
        ("parity.outputs.0.whole.centred_db", 37.0, 35.3, EVERYWHERE, ON_DATA),
        ("parity.outputs.1.agreement.differing", 0, 4, EVERYWHERE, ON_DATA),
        ("ranking.flips", 0, 3, EVERYWHERE, ON_DATA),
        ("loss.file_db", 37.0, 35.3, EVERYWHERE, ON_DATA),
        ("loss.expected_db", 37.0, 35.5, HERE, [*ON_DATA, *CALIBRATED]),
        ("metric.interval", [-0.02, 0.002], [0.004, 0.021], HERE, ON_DATA),
        ("metric.not_worse", 0.9, 0.405, HERE, ON_DATA),
        ("metric.higher_is_better", True, False, EVERYWHERE, []),
        ("delegated_flops", 0.5, 0.975, EVERYWHERE, []),
        ("audit.coverage", 1.0, 0.9998, EVERYWHERE, []),
    ],
)
def test_a_figure_that_judges_is_held(
    path: str, lie: Any, truth: Any, hosts: tuple[bool, bool], data: list[str]
) -> None:
    """Where it is near it stands; what another host or other data move is not held there."""

    def told(said: ArtifactRecord, found: ArtifactRecord, *, same_host: bool = True, other: str = "") -> list[str]:
        return list(standing.of_record(said, found, changed=[other] if other else [], same_host=same_host))

    said = changed(path, lie)
    assert [bool(told(said, RECORD, same_host=same)) for same in (True, False)] == list(hosts)
    assert [role for role in ("evaluation", "calibration") if not told(said, RECORD, other=role)] == data
    for same in (True, False):
        assert not told(changed(path, truth), RECORD, same_host=same)
        assert not told(RECORD, RECORD, same_host=same)


@pytest.mark.parametrize(
    "path",
    [
        "parity.centred_db",
        "parity.outputs.0.whole",
        "parity.outputs.1.agreement",
        "ranking",
        "loss",
        "loss.file_db",
        "loss.expected_db",
        "metric.interval",
        "metric.not_worse",
        "delegated_flops",
        "audit",
        "audit.coverage",
    ],
)
def test_a_figure_that_a_side_has_none_of_is_not_held(path: str) -> None:
    none = changed(path, None)
    for said, found in ((none, RECORD), (RECORD, none)):
        assert not list(standing.of_record(said, found, changed=[], same_host=True))


def test_float32_that_is_equal_bit_for_bit_is_so_on_one_host() -> None:
    said, found = changed("parity.sqnr_db", 200.0), changed("parity.sqnr_db", 128.0)
    assert list(standing.of_record(said, found, changed=[], same_host=True))
    assert not list(standing.of_record(said, found, changed=[], same_host=False))


@pytest.mark.export
def test_other_data_are_no_ground_to_judge_by(edgepass: Cli, out: Path) -> None:
    edited(out, lambda made: made["data"][0].update(sha256="0" * 64))
    done = edgepass("validate", out, "--trust")
    assert done.code != OK
    assert "the evaluation data here are not those" in " ".join(done.out.split())


@pytest.mark.export
def test_what_another_metric_says_is_not_held(edgepass: Cli, out: Path) -> None:
    """A metric of the user's own is known by --metric alone, so a sound folder neither fails nor passes without it."""

    def other(made: Any) -> None:
        made["artifacts"][0]["metric"].update(name="mine", value=7.0)

    edited(out, other)
    done = edgepass("validate", out, "--trust")
    assert done.code == NOT_EVALUATED
    said = " ".join(done.out.split())
    assert "scored here by mse, and by mine in the manifest" in said
    assert "the manifest says that" not in said


def test_a_manifest_of_another_schema_is_refused_in_a_sentence(edgepass: Cli, tmp_path: Path) -> None:
    empty = {"verdict": "pass", "model": {"name": "m", "source": "m", "inputs": [], "outputs": [], "parameters": 0}}
    rest = {"versions": {}, "seed": 0, "gates": {}, "data": [], "artifacts": []}
    (tmp_path / manifest.FILE).write_text(json.dumps({"schema": 2, **empty, **rest}))
    done = edgepass("validate", tmp_path)
    assert done.code == BAD_INPUT
    assert "is of schema 2, and this version reads schema 1" in done.sentence


@pytest.mark.export
def test_a_weight_that_was_edited_with_its_hash_is_named(edgepass: Cli, out: Path) -> None:
    """Too little to show in the outputs, and the manifest tells of the file as it now is."""
    file = out / "small.fp32.onnx"
    model = onnx.load(file)
    (weight,) = (w for w in model.graph.initializer if sorted(w.dims) == [7, 16])
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[np.abs(values).argmax()] *= 1 + 1e-5
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, file)

    def follow(made: Any) -> None:
        (record,) = made["artifacts"]
        record["content_sha256"] = files.sha256(file)
        record["bytes"] = file.stat().st_size

    edited(out, follow)
    done = edgepass("validate", out, "--trust", "--json")
    assert done.code == GATE_FAILED
    reasons = " ".join(json.loads(done.out)["artifacts"][0]["reasons"])
    assert "the file holds another weight than the graph: 0.weight" in reasons
