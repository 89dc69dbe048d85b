"""TFLite: runs a .tflite on LiteRT's interpreter with its default XNNPACK delegate."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepass.errors import DamagedError
from edgepass.judging.manifest import Evidence
from edgepass.runtimes import Array, Contents, Cut, Session, method_of
from edgepass.runtimes.tflite import _graphs, _order

extra = "tflite"
suffix = ".tflite"
prepare_reading = None


def prepare(path: Path) -> None:
    """Import LiteRT's interpreter."""
    import_module("ai_edge_litert.interpreter")


class _Session:
    evidence: Evidence = "host runtime"

    def __init__(self, path: Path, threads: int, method: str = "") -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.interpreter = Interpreter(model_path=str(path), num_threads=threads)
        runners = {key: self.interpreter.get_signature_runner(key) for key in self.interpreter.get_signature_list()}
        method_of(path, method, list(runners))
        self.graph: int = runners[method]._subgraph_index if method else 0
        # What LiteRT's own signature runner calls: the interpreter itself runs no graph but the first.
        self.native: Any = self.interpreter._interpreter
        self.native.AllocateTensors(self.graph)
        self.inputs, self.outputs = (
            [self.interpreter._get_tensor_details(index, self.graph) for index in ends]
            for ends in _graphs.ends(path, self.graph)
        )
        self.shapes = [tuple(int(n) for n in details["shape"]) for details in self.inputs]
        for runner in runners.values():
            if runner._subgraph_index != self.graph:
                continue
            for side, own, named in (
                ("input", self.inputs, runner.get_input_details()),
                ("output", self.outputs, runner.get_output_details()),
            ):
                _order.check([d["index"] for d in own], {name: d["index"] for name, d in named.items()}, side, path)

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        if len(inputs) != len(self.inputs):
            raise ValueError(f"it takes {len(self.inputs)} inputs, {len(inputs)} were given")
        self._resize([x.shape for x in inputs])
        for x, details in zip(inputs, self.inputs, strict=True):
            self.native.SetTensor(details["index"], quantize(x, details), self.graph)
        self.native.Invoke(self.graph)
        return [dequantize(self.native.GetTensor(d["index"], self.graph), d) for d in self.outputs]

    def _resize(self, shapes: list[tuple[int, ...]]) -> None:
        """Let the inputs have these shapes, where the file leaves those dimensions open."""
        if shapes == self.shapes:
            return
        for shape, details in zip(shapes, self.inputs, strict=True):
            self.native.ResizeInputTensor(details["index"], np.array(shape, np.int32), True, self.graph)
        self.native.AllocateTensors(self.graph)
        self.shapes = shapes


def load(path: Path, threads: int, method: str = "") -> Session:
    """Load the graph of a signature, or the first. Integer I/O with a scale is quantised and dequantised per call.

    Raises DamagedError for what is no TFLite file, and for one whose signature contradicts the order of its graph.
    """
    if path.stat().st_size < 8 or path.read_bytes()[4:8] != b"TFL3":
        raise DamagedError(f"{path} is not a TFLite file (it lacks the mark TFL3)")
    return _Session(path, threads, method)


def inspect(path: Path, method: str = "") -> Contents:
    """What a signature of the file holds, read from its bytes; what XNNPACK takes, from the interpreter."""
    from edgepass.runtimes.tflite._file import inspect as read

    return read(path, method)


def cut(path: Path, threads: int, method: str = "") -> Cut:
    """The graph of a signature, cut at its int8 tensors."""
    from edgepass.runtimes.tflite._cut import Cut

    return Cut(path, threads, method)


def quantize(x: NDArray[Any], details: dict[str, Any]) -> Array:
    """`x` as the file takes it."""
    dtype: np.dtype[Any] = np.dtype(details["dtype"])
    scale, zero_point = details["quantization"]
    if dtype.kind in "iu" and x.dtype.kind == "f" and scale:
        info = np.iinfo(dtype)
        x = np.clip(np.rint(x / scale) + zero_point, info.min, info.max).astype(dtype)
    return x.astype(dtype, copy=False) if x.dtype.kind == dtype.kind else x


def dequantize(y: NDArray[Any], details: dict[str, Any]) -> Array:
    """What the file gives, as floats where it gives integers that stand for them."""
    scale, zero_point = details["quantization"]
    if y.dtype.kind in "iu" and scale:
        y = (y.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
    return y.astype(np.float32, copy=False) if y.dtype.kind == "f" else y
