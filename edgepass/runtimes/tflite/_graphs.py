"""The signatures of a .tflite: each is of a graph of its own, which reads and makes its tensors in its own order."""

from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np

from edgepass.runtimes import method_of


def graphs(model: Any) -> dict[str, int]:
    """Signature -> the number of its graph, in the order of the file."""
    return {text(signature.signatureKey): int(signature.subgraphIndex) for signature in model.signatureDefs or ()}


def graph_of(model: Any, path: Path, method: str) -> int:
    """The number of the graph that `method` is of: the first where none is named. Raises ArtifactError."""
    known = graphs(model)
    return known[method] if method_of(path, method, list(known)) else 0


def foremost(model: Any, number: int) -> None:
    """Let the graph of that number be the first too, in the place of one that it cannot call: a signature's own."""
    model.subgraphs[0] = model.subgraphs[number]
    if number:
        model.signatureDefs = None


def alone(path: Path, number: int) -> bytes:
    """The file with the graph of that number as its first, which is the one that an interpreter tells most of."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    content = path.read_bytes()
    model: Any = schema.ModelT.InitFromPackedBuf(content, 0)
    for buffer in model.buffers:
        if buffer.offset > 1:  # behind the flatbuffer, whose size is about to change
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    foremost(model, number)
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def ends(path: Path, number: int) -> tuple[list[int], list[int]]:
    """The tensors that a graph takes and gives, in its order."""
    from ai_edge_litert import schema_py_generated as schema

    with path.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as data:
        graph: Any = schema.Model.GetRootAs(data, 0).Subgraphs(number)
        given, made = range(graph.InputsLength()), range(graph.OutputsLength())
        return [int(graph.Inputs(i)) for i in given], [int(graph.Outputs(i)) for i in made]


def text(name: bytes | str | None) -> str:
    """A name of the file, whichever it is held as."""
    return name.decode(errors="replace") if isinstance(name, bytes) else name or ""
