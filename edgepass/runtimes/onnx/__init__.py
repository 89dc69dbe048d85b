"""ONNX: runs an .onnx on onnxruntime's CPU provider, as a check on the other formats."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from edgepass.judging.manifest import Evidence
from edgepass.runtimes import Array, Contents, Cut, Session, method_of

extra = "onnx"
suffix = ".onnx"
prepare_reading = None
_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(int16)": np.int16,
    "tensor(uint16)": np.uint16,
    "tensor(int32)": np.int32,
    "tensor(uint32)": np.uint32,
    "tensor(int64)": np.int64,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
}


def prepare(path: Path) -> None:
    """Import onnxruntime, and refuse a file whose weights lie outside its folder before they are opened."""
    import onnx

    from edgepass.runtimes.onnx import _external

    import_module("onnxruntime")
    _external.files(onnx.load(path, load_external_data=False), path)


class _Session:
    evidence: Evidence = "host runtime"

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        self.session = onnxruntime.InferenceSession(str(path), options(threads), providers=["CPUExecutionProvider"])
        self.inputs = [(x.name, x.type) for x in self.session.get_inputs()]

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        if len(inputs) != len(self.inputs):
            raise ValueError(f"it takes {len(self.inputs)} inputs, {len(inputs)} were given")
        feed = {name: cast(x, kind) for x, (name, kind) in zip(inputs, self.inputs, strict=True)}
        outputs = [np.asarray(y) for y in self.session.run(None, feed)]
        return [y.astype(np.float32) if y.dtype == np.float16 else y for y in outputs]


def load(path: Path, threads: int, method: str = "") -> Session:
    """Load the graph with the weights beside it, if it keeps them there. Half-precision I/O is given as float32.

    A method is the graph itself, by its name. Raises ArtifactError where it is called otherwise.
    """
    made = _Session(path, threads)
    method_of(path, method, [made.session.get_modelmeta().graph_name])
    return made


def inspect(path: Path, method: str = "") -> Contents:
    """What the graph holds; `delegated_flops` is None, for onnxruntime's CPU provider runs every operation itself."""
    from edgepass.runtimes.onnx._file import inspect as read

    found = read(path)
    method_of(path, method, found.methods)
    return found


def cut(path: Path, threads: int, method: str = "") -> Cut:
    """The graph, cut at what its QuantizeLinear give; whatever its name is."""
    from edgepass.runtimes.onnx._cut import Cut

    return Cut(path, threads)


def options(threads: int) -> Any:
    """Of a session: so many threads, and no word but errors."""
    import onnxruntime

    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = threads
    chosen.inter_op_num_threads = 1
    chosen.log_severity_level = 3
    return chosen


def cast(x: Array, kind: str) -> Array:
    """`x` as the file takes it, when that is the same kind of number."""
    dtype = np.dtype(_DTYPES.get(kind, x.dtype))
    return x.astype(dtype, copy=False) if x.dtype.kind == dtype.kind else x
