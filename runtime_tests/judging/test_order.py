"""Inputs and outputs of one shape, whose names sort otherwise than they stand: a file that swaps two of them fails."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgepass import exporters, pipeline
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.judging import verdict
from edgepass.judging.candidate import Standard
from edgepass.judging.gates import Gates
from edgepass.quantize import recipe as recipes
from edgepass.samples import Samples
from edgepass.task import Task
from runtime_tests.conftest import CONVERTERS_WARN
from runtime_tests.faults.subject import in_this_process

pytestmark = [pytest.mark.export, CONVERTERS_WARN]


class Ends(nn.Module):
    """Two inputs [1, 8] and two outputs [1, 8]; the first input's name sorts last."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.first = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, z: Tensor, a: Tensor) -> dict[str, Tensor]:
        return {"late": self.last(torch.tanh(z)), "early": self.first(a) - z}


def swap(ends: Any) -> None:
    """In place, whether a list or a repeated field."""
    kept = [ends[1], ends[0]]
    del ends[:]
    ends.extend(kept)


def onnx(path: Path, side: str) -> None:
    import onnx as library

    model = library.load(path)
    swap(getattr(model.graph, side))
    library.save_model(model, str(path))


def coreml(path: Path, side: str) -> None:
    from coremltools.models.utils import load_spec

    spec: Any = load_spec(str(path))
    swap(getattr(spec.description, side))
    (path / "Data" / "com.apple.CoreML" / "model.mlmodel").write_bytes(spec.SerializeToString())


def tflite(path: Path, side: str) -> None:
    from ai_edge_litert import schema_py_generated as schema

    from edgepass.exporters import _flatbuffer

    model: Any = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    model.signatureDefs = []  # one that contradicts the graph is refused before anything runs
    graph = model.subgraphs[0]
    setattr(graph, f"{side}s", list(getattr(graph, f"{side}s"))[::-1])
    path.write_bytes(_flatbuffer.packed(model))


def executorch(path: Path, side: str) -> None:
    from executorch.exir._serialize._program import deserialize_pte_binary, serialize_pte_binary

    held = deserialize_pte_binary(path.read_bytes())
    swap(getattr(held.program.execution_plan[0], f"{side}s"))
    path.write_bytes(bytes(serialize_pte_binary(held)))


SWAPS: list[Callable[[Path, str], None]] = [executorch, coreml, tflite, onnx]


@pytest.fixture(autouse=True)
def _here() -> Iterator[None]:
    with in_this_process():
        yield


@pytest.mark.parametrize("plant", SWAPS, ids=lambda plant: plant.__name__)
def test_a_file_whose_ends_are_swapped_fails(plant: Callable[[Path, str], None], tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Ends().eval()
    generator = np.random.default_rng(0)
    samples = Samples(inputs=[generator.normal(size=(32, 1, 8)).astype(np.float32) for _ in range(2)])
    task = Task(name="ends", source="ends", model=model, args=samples.arguments()[0], evaluation=samples)
    standard = Standard(samples=samples, reference=task.reference(samples), score=None)
    target = plant.__name__
    path = tmp_path / f"ends{exporters.target(target).suffix}"
    job = Job(capture(model, task.args), recipes.read("fp32"))
    candidate = pipeline.convert(target, job, path)
    assert verdict.judge(candidate, standard, Gates())[0].verdict == "pass"
    for side in ("input", "output"):
        plant(path, side)
        record, _ = verdict.judge(candidate, standard, Gates())
        assert record.verdict == "fail", (side, record.parity)
        assert any("the error of output_" in reason for reason in record.reasons), record.reasons
        plant(path, side)  # back
    assert verdict.judge(candidate, standard, Gates())[0].verdict == "pass"
