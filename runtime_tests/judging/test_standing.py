"""validate says each figure of a manifest that no longer holds, and lets stand what only noise has moved."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
from safetensors.numpy import load_file, save

from edgepass.errors import BAD_INPUT, GATE_FAILED, NOT_EVALUATED, OK
from edgepass.judging import files, manifest
from runtime_tests.conftest import Done

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
def test_the_gates_of_the_manifest_are_applied_again(edgepass: Cli, out: Path) -> None:
    edited(out, lambda made: made["gates"].update(max_size=100.0))
    done = edgepass("validate", out, "--trust")
    assert done.code == GATE_FAILED
    assert "more than 100" in " ".join(done.out.split())
    edited(out, lambda made: made["gates"].update(max_size=100.0, max_sise=1.0))
    assert "no gate 'max_sise'" in edgepass("validate", out, "--trust").sentence


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
