"""Reads and runs the payload that a .pte hands to Core ML: an ML program package, flattened into one piece of bytes.

The format is ExecuTorch's (backends/apple/coreml/runtime/inmemoryfs): the contents of all files, then a JSON tree of
folders and files, written backwards so that it can be read from the end. No name in it may lead out of its folder.
"""

import json
from collections import Counter
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgepass.judging.manifest import Evidence
from edgepass.runtimes import Array, Session
from edgepass.runtimes.executorch._payload import Payload

MODEL = "model.mlpackage"
FOLDER = 1  # the kind of a node in the tree; a file is 0


def prepare() -> None:
    """Import what running a payload needs."""
    import_module("edgepass.runtimes.coreml").prepare(Path())


def parse(payload: bytes, named_data: Mapping[str, bytes], index: int) -> Payload:
    """Read the payload of the index-th delegate. Raises ValueError when it is not Core ML's, ArtifactError within."""
    from edgepass.runtimes import coreml

    coreml.prepare_reading()
    with TemporaryDirectory() as name:
        contents = coreml.inspect(_unpacked(payload, Path(name), index))
    return Payload(
        weights=contents.weights,
        values=contents.values,
        ops=Counter(contents.ops),
        flops=Counter(contents.flops),
        content_sha256=contents.content_sha256,
    )


def load(payload: bytes, named_data: Mapping[str, bytes], threads: int) -> Session:
    """The reference executor of the package inside."""
    return _Session(payload, threads)


class _Session:
    evidence: Evidence = "reference executor"

    def __init__(self, payload: bytes, threads: int) -> None:
        from edgepass.runtimes.coreml._file import open_package
        from edgepass.runtimes.coreml._program import Executor

        with TemporaryDirectory() as name:
            self.executor = Executor(open_package(_unpacked(payload, Path(name), 0)), threads)

    def __call__(self, inputs: Any) -> list[Array]:
        return self.executor(inputs)


def _unpacked(payload: bytes, folder: Path, index: int) -> Path:
    """The package, written into `folder`."""
    try:
        tree, _ = json.JSONDecoder().raw_decode(payload[::-1].decode("latin-1"))
        nodes = tree["nodes"]
        root = next(node for node in nodes if MODEL in node["children"])
        _write(payload, nodes, root["children"][MODEL], folder / MODEL)
    except (ValueError, LookupError, TypeError, StopIteration, RecursionError, OSError) as error:
        raise ValueError(f"delegate {index} holds no Core ML package") from error
    return folder / MODEL


def _write(payload: bytes, nodes: list[Any], number: int, path: Path) -> None:
    node = nodes[number]
    if node["kind"] != FOLDER:
        start, size = node["dataRegion"]["offset"], node["dataRegion"]["size"]
        path.write_bytes(payload[start : start + size])
        return
    path.mkdir()
    for name, child in node["children"].items():
        if not name or Path(name).name != name or name == "..":
            raise ValueError(f"{name!r} is no name of a file")
        _write(payload, nodes, child, path / name)
