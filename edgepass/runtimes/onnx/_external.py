"""The files beside an .onnx that hold its weights, and the refusal of those that lie elsewhere."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgepass.errors import ArtifactError, DamagedError


def files(model: Any, path: Path) -> list[str]:
    """Names of the files that the model's tensors are in, relative to its folder.

    Raises ArtifactError for a place outside that folder, also by way of a link: what lies there is none of the model's.
    Raises DamagedError for a file that is not there.
    """
    from onnx.external_data_helper import uses_external_data

    folder = path.resolve().parent
    found = {
        str(next((entry.value for entry in tensor.external_data if entry.key == "location"), ""))
        for tensor in _tensors(model)
        if uses_external_data(tensor)
    }
    for name in sorted(found):
        place = (folder / name).resolve()
        if not name or Path(name).is_absolute() or not place.is_relative_to(folder) or place == folder:
            raise ArtifactError(
                f"{path} keeps weights in {name!r}, which is no file of its folder, and no other is opened; "
                "save it with its weights inside or beside it"
            )
        if not place.is_file():
            raise DamagedError(f"{path} lacks the file of its weights, {name}")
    return sorted(found)


def _tensors(model: Any) -> Iterator[Any]:
    yield from _of_graph(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _of_node(node)


def _of_graph(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _of_node(node)


def _of_node(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        yield from (attribute.t, *attribute.tensors)
        for graph in (attribute.g, *attribute.graphs):
            yield from _of_graph(graph)
