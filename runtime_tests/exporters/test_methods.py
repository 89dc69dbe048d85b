"""Several methods of a model in one file: each is judged by itself, and what they share is stored once."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from edgepass import exporters
from edgepass.cli.commands import cli
from edgepass.errors import ArtifactError, RefusedError
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.judging import verdict
from edgepass.judging.candidate import Candidate, Standard
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import ArtifactRecord
from edgepass.pipeline import expectations
from edgepass.quantize import recipe
from edgepass.runtimes import _child
from edgepass.samples import Samples
from edgepass.task import Task
from runtime_tests.conftest import CONVERTERS_WARN
from runtime_tests.exporters.small import TARGETS, sampled

pytestmark = [pytest.mark.export, CONVERTERS_WARN]

WIDTH, SAMPLES = 96, 24
SEVERAL = [target for target in TARGETS if exporters.target(target).methods]


class Codec(nn.Module):
    """Its methods share a layer, and have inputs and outputs of different numbers and shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
        self.out = nn.Linear(WIDTH, 7)

    def encode(self, x: Tensor) -> Tensor:
        """[3, WIDTH] to the same."""
        y: Tensor = self.shared(x)
        return y

    def decode(self, z: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """[1, WIDTH] and [1, 7] to [1, 7] and [1]."""
        y = self.out(torch.tanh(self.shared(z)))
        return y * weight, y.sum(-1)


class Method(nn.Module):
    """One method of a model, as a model."""

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.model, self.name = model, name

    def forward(self, *args: Tensor) -> Any:
        return getattr(self.model, self.name)(*args)


class Trial:
    """A method of a model with data, and what it should give."""

    def __init__(self, model: nn.Module, name: str, shapes: Sequence[tuple[int, ...]], number_format: str) -> None:
        torch.manual_seed(len(name))
        self.name = name
        self.samples = Samples(inputs=[torch.randn(SAMPLES, *shape).numpy() for shape in shapes])
        args = self.samples.arguments()[0]
        self.task = Task(name=name, source="test", model=Method(model, name).eval(), args=args)
        self.job = Job(capture(self.task.module, args), recipe.read(number_format), self.samples.arguments)

    @cached_property
    def standard(self) -> Standard:
        return Standard(samples=self.samples, reference=self.task.reference(self.samples), score=None)

    def judged(self, path: Path, target: str, method: str) -> ArtifactRecord:
        runtime = exporters.target(target).runtime
        candidate = Candidate(
            path=path,
            target=target,
            runtime=runtime,
            recipe=self.job.recipe,
            requested=exporters.requested(target, self.job),
            stated=exporters.stated(target, self.job),
            expected=expectations(self.job)(target),
            fresh=True,
            method=method,
        )
        return verdict.judge(candidate, self.standard, Gates())[0]


def trials(number_format: str) -> list[Trial]:
    torch.manual_seed(0)
    model = Codec()
    shapes = {"encode": [(3, WIDTH)], "decode": [(1, WIDTH), (1, 7)]}
    made = [Trial(model, name, own, number_format) for name, own in shapes.items()]
    exporters.akin({trial.name: trial.job for trial in made})
    return made


def size(path: Path) -> int:
    return sum(f.stat().st_size for f in (path, *path.rglob("*")) if f.is_file())


QUICK = {("executorch", "fp32"), ("tflite", "static_wi8_ai8"), ("coreml", "fp32")}


@pytest.mark.parametrize(
    ("target", "number_format"),
    sampled(
        (
            (target, name)
            for target in SEVERAL
            for name in ("fp32", "fp16", "static_wi8_ai8", "dynamic_wi8_afp32", "weight_only_wi8_afp32")
            if recipe.read(name).scheme not in exporters.target(target).refuses
        ),
        QUICK,
    ),
)
def test_each_method_of_a_file_passes_by_itself(target: str, number_format: str, tmp_path: Path) -> None:
    made, module = trials(number_format), exporters.target(target)
    path, alone = tmp_path / f"both{module.suffix}", tmp_path / f"alone{module.suffix}"
    exporters.export_methods(target, {trial.name: trial.job for trial in made}, path)
    for trial in made:
        record = trial.judged(path, target, trial.name)
        assert (record.verdict, record.method) == ("pass", trial.name), record.reasons
        assert len(record.outputs) == len(trial.standard.reference)
        assert record.audit is not None
        assert not [weight.name for weight in record.audit.weights if weight.dtype == "absent"]
    exporters.export(target, made[-1].job, alone)
    if target != "executorch:coreml":  # each of whose delegates is a package of its own
        # Less than a linear layer's weights: the two that the methods share are there once.
        assert size(path) - size(alone) < WIDTH * WIDTH * {"fp32": 4, "fp16": 2}.get(number_format, 1), size(path)


@pytest.mark.parametrize("target", ["tflite", pytest.param("executorch", marks=pytest.mark.slow)])
def test_a_method_that_is_another_fails(target: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    first, second = Codec(), Codec()
    made = [Trial(model, "encode", [(3, WIDTH)], "fp32") for model in (first, second)]
    path = tmp_path / f"both{exporters.target(target).suffix}"
    exporters.export_methods(target, {"a": made[0].job, "b": made[1].job}, path)
    found = [made[0].judged(path, target, method).verdict for method in ("a", "b", "")]
    assert found == ["pass", "fail", "pass"]
    exporters.export_methods(target, {"a": made[0].job}, path)
    assert _child.inspect(exporters.target(target).runtime, path).methods == ["a"]


class Choosing(nn.Module):
    """Methods whose files have graphs beside their own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def up(self, x: Tensor) -> Tensor:
        y: Tensor = nn.functional.gelu(self.layer(x))
        return y.cumsum(-1)

    def down(self, x: Tensor) -> Tensor:
        y: Tensor = nn.functional.gelu(self.layer(-x))
        return y.softmax(-1)


def test_graphs_that_a_method_calls_are_still_its_own(tmp_path: Path) -> None:
    from ai_edge_litert import schema_py_generated as schema

    from edgepass.exporters import _flatbuffer
    from edgepass.runtimes.tflite import _graphs

    torch.manual_seed(0)
    made = [Trial(Choosing(), name, [(3, 8)], "fp32") for name in ("up", "down")]
    for trial in made:
        exporters.export("tflite", trial.job, tmp_path / f"{trial.name}.tflite")
    alone = [_flatbuffer.parsed((tmp_path / f"{t.name}.tflite").read_bytes()) for t in made]
    exporters.export_methods("tflite", {t.name: t.job for t in made}, path := tmp_path / "both.tflite")
    model: Any = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    assert len(model.subgraphs) == sum(len(one.subgraphs) for one in alone)
    assert list(_graphs.graphs(model).values()) == [0, len(alone[0].subgraphs)]
    for trial in made:
        assert trial.judged(path, "tflite", trial.name).verdict == "pass"


def test_what_a_file_has_not_is_told(tmp_path: Path) -> None:
    made = {trial.name: trial.job for trial in trials("fp32")}
    with pytest.raises(RefusedError, match=r"onnx cannot hold several methods.*coreml.*tflite.*with --target"):
        exporters.export_methods("onnx", made, tmp_path / "both.onnx")
    exporters.export_methods("onnx", {"encode": made["encode"]}, alone := tmp_path / "encode.onnx")
    with pytest.raises(ArtifactError, match=r"encode\.onnx has no method 'decode'; it has encode"):
        _child.inspect("onnx", alone, method="decode")
    exporters.export_methods("tflite", made, path := tmp_path / "both.tflite")
    with pytest.raises(ArtifactError, match=r"both\.tflite has no method 'other'; it has encode, decode"):
        _child.inspect("tflite", path, method="other")
    shown = CliRunner().invoke(cli, ["inspect", str(path), "--method", "decode"])
    assert shown.exit_code == 0
    assert "encode, decode" in shown.output
    assert "float32[1, 7]" in shown.output


REFERENCE = """
import torch
from runtime_tests.exporters.test_methods import Codec, Method, WIDTH

def get_model():
    torch.manual_seed(0)
    return Method(Codec(), "decode")

def get_args():
    return torch.randn(1, WIDTH), torch.randn(1, 7)
"""


def test_a_method_of_a_file_is_validated_against_its_own_reference(tmp_path: Path) -> None:
    made = {trial.name: trial.job for trial in trials("fp32")}
    exporters.export_methods("tflite", made, path := tmp_path / "both.tflite")
    (tmp_path / "decode.py").write_text(REFERENCE)
    asked = ["validate", str(path), "--reference", f"{tmp_path}/decode.py:get_model", "--recipe", "fp32", "--method"]
    codes = [CliRunner().invoke(cli, [*asked, method]).exit_code for method in ("decode", "encode")]
    assert codes == [0, 2]
