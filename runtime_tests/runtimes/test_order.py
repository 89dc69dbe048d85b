"""Inputs and outputs go by the order of the file, whatever their names; a signature that contradicts it is refused."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepass.errors import ArtifactError
from runtime_tests.runtimes.written import run

Change = Callable[[Any], None]


def swapped(path: Path, to: Path, change: Change) -> Path:
    """The .tflite with a change to its model."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    change(model)
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    to.write_bytes(bytes(builder.Output()))
    return to


def swap(ends: Any) -> Any:
    return [ends[1], ends[0], *ends[2:]]


def by_position(side: str) -> Change:
    def change(model: Any) -> None:
        graph = model.subgraphs[0]
        setattr(graph, side, swap(list(getattr(graph, side))))

    return change


def by_name(side: str) -> Change:
    def change(model: Any) -> None:
        entries = {entry.name: entry for entry in getattr(model.signatureDefs[0], side)}
        stem = b"args" if side == "inputs" else b"output"
        first, second = entries[stem + b"_0"], entries[stem + b"_1"]
        first.tensorIndex, second.tensorIndex = second.tensorIndex, first.tensorIndex

    return change


def inputs() -> list[np.ndarray]:
    return [np.full((1, 1, 2), 100.0 + i, np.float32) for i in range(12)]


@pytest.mark.parametrize("way", [by_position, by_name])
@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_a_signature_that_contradicts_the_graph_is_refused(
    files: Path, tmp_path: Path, way: Callable[[str], Change], side: str
) -> None:
    file = swapped(files / "many.tflite", tmp_path / "swapped.tflite", way(side))
    with pytest.raises(ArtifactError, match=re.escape(f"{side[:-1]} 0 is not its signature's")):
        run(file, inputs())


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_without_a_signature_the_order_is_the_graphs_own(files: Path, tmp_path: Path, side: str) -> None:
    def change(model: Any) -> None:
        model.signatureDefs = []
        by_position(side)(model)

    file = swapped(files / "many.tflite", tmp_path / "swapped.tflite", change)
    given = [float(y[0, 0, 0]) for y in run(file, inputs()).outputs]
    right = [(100.0 + i) * (i + 1) for i in range(12)]
    # Swapped inputs: the first tensor is handed what was meant for the second.
    assert given == (swap(right) if side == "outputs" else [101.0 * 1, 100.0 * 2, *right[2:]])
