"""Two .tflite files of one program, of two sizes, as one that takes any.

    before   x[3, 8] ─ reshape [3, 2, 4] ─ y     and     x[5, 8] ─ reshape [5, 2, 4] ─ y
    after    x[n, 8] ─ reshape [-1, 2, 4] ─ y

litert-torch 0.10 converts no size that varies ("reshape new_sizes must all be positive", of a linear layer). In a file
a size decides the shapes of tensors, which the runtime finds anew when an app resizes an input, and constants. Those
that say the sizes of a reshape or a slice may have a number for what is left; any other that differs is refused.
"""

from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from edgepass.errors import RefusedError
from edgepass.exporters import _flatbuffer

REST = -1
"""What is left of a dimension, in a reshape and in the size of a slice."""
SAID_TWICE = {"newShape"}
"""Settings of operators that a constant says too."""


def resizable(one: bytes, other: bytes, flags: str) -> bytes:
    """The first file, with whatever size differs in the other left open.

    Raises RefusedError that names the operation which holds a size; `flags` are what asked for it.
    """
    return _Pair(_flatbuffer.parsed(one), _flatbuffer.parsed(other), flags).joined()


class _Pair:
    """Both files, parsed."""

    def __init__(self, one: Any, other: Any, flags: str) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.one, self.other, self.flags = one, other, flags
        self.names = {value: key for key, value in vars(schema.BuiltinOperator).items() if key.isupper()}

    def joined(self) -> bytes:
        graphs = list(zip(self.one.subgraphs, self.other.subgraphs, strict=False))
        if len(self.one.subgraphs) != len(self.other.subgraphs):
            self.refuse(None, "are others at each size")
        for graph, twin in graphs:
            self.compare(graph, twin)
            self.open(graph, twin)
        return _flatbuffer.packed(self.one)

    def compare(self, graph: Any, twin: Any) -> None:
        """Raise RefusedError where the graphs have other operations, or other settings of them."""
        if len(graph.operators) != len(twin.operators) or len(graph.tensors) != len(twin.tensors):
            self.refuse(None, "are others at each size")
        for operator, its in zip(graph.operators, twin.operators, strict=True):
            same = list(operator.inputs) == list(its.inputs) and list(operator.outputs) == list(its.outputs)
            if not same or self.name(self.one, operator) != self.name(self.other, its) or _told(operator) != _told(its):
                self.refuse(operator, "is another at each size")

    def open(self, graph: Any, twin: Any) -> None:
        """Leave open what differs in the shapes of tensors, and in the constants that say some."""
        for index, (tensor, its) in enumerate(zip(graph.tensors, twin.tensors, strict=True)):
            shape, others = _shape(tensor), _shape(its)
            data, theirs = _data(self.one, tensor), _data(self.other, its)
            readers = [operator for operator in graph.operators if index in operator.inputs]
            if len(shape) != len(others) or (data is None) != (theirs is None):
                self.refuse(next(iter(readers), None), "is another at each size")
            if data is None or theirs is None:
                if shape != others:
                    left = np.array(shape, np.int32)
                    tensor.shapeSignature = np.where(left == others, left, np.int32(REST))
                continue
            if data == theirs:
                continue
            for reader in readers:
                sizes = self.sizes(graph, twin, reader, index, data, theirs) if shape == others else None
                if sizes is None:
                    self.refuse(reader, "holds a size in a constant")
                tensor.buffer = self.buffer(sizes)  # of its own: another constant may have been equal at this size
                if hasattr(reader.builtinOptions, "newShape"):
                    reader.builtinOptions.newShape = sizes

    def buffer(self, values: NDArray[np.int32]) -> int:
        from ai_edge_litert import schema_py_generated as schema

        made: Any = schema.BufferT()
        made.data = np.frombuffer(values.tobytes(), np.uint8)
        self.one.buffers.append(made)
        return len(self.one.buffers) - 1

    def sizes(
        self, graph: Any, twin: Any, reader: Any, index: int, data: bytes, theirs: bytes
    ) -> NDArray[np.int32] | None:
        """What an operator reads with what differs left open; None where it has no way to say so."""
        place, name = list(reader.inputs).index(index), self.name(self.one, reader)
        if (name, place) not in (("RESHAPE", 1), ("SLICE", 2)):
            return None
        one, other = np.frombuffer(data, np.int32), np.frombuffer(theirs, np.int32)
        differs = one != other
        if name == "RESHAPE":
            return np.where(differs, np.int32(REST), one) if differs.sum() == 1 and REST not in one else None
        source, begin = (int(i) for i in reader.inputs[:2])
        start = _data(self.one, graph.tensors[begin])
        if start is None:
            return None
        ends = np.frombuffer(start, np.int32)[None] + np.stack([one, other])
        whole = np.array([_shape(graph.tensors[source]), _shape(twin.tensors[source])])
        return np.where(differs, np.int32(REST), one) if (ends == whole)[:, differs].all() else None

    def name(self, model: Any, operator: Any) -> str:
        code = model.operatorCodes[operator.opcodeIndex]
        return str(self.names.get(max(code.builtinCode, code.deprecatedBuiltinCode), "operator"))

    def refuse(self, operator: Any, why: str) -> NoReturn:
        what = "operators" if operator is None else self.name(self.one, operator)
        raise RefusedError(
            f"tflite cannot hold a size that varies in this model: of its .tflite, {what} {why}; leave out "
            f"{self.flags}, or name the other targets with --target"
        )


def _shape(tensor: Any) -> list[int]:
    return [] if tensor.shape is None else [int(n) for n in tensor.shape]


def _data(model: Any, tensor: Any) -> bytes | None:
    data = model.buffers[tensor.buffer].data
    return None if data is None or not len(data) else np.asarray(data, np.uint8).tobytes()


def _told(operator: Any) -> dict[str, str]:
    """The settings of an operator."""
    parts = (part for part in (operator.builtinOptions, operator.builtinOptions2) if part)
    return {key: str(value) for part in parts for key, value in vars(part).items() if key not in SAID_TWICE}
