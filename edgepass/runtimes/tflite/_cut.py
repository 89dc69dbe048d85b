"""Cuts a .tflite at its int8 tensors: each is an output, and an input to the operations that read it."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgepass.runtimes import Array, Place
from edgepass.runtimes._cut import reads
from edgepass.runtimes.tflite import _graphs, dequantize, quantize

_MOVES = {
    *("RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS", "SLICE", "STRIDED_SLICE", "PAD", "PADV2", "MIRROR_PAD", "TILE"),
    *("SPLIT", "SPLIT_V", "UNPACK", "GATHER", "GATHER_ND", "BROADCAST_TO", "REVERSE_V2", "RESIZE_NEAREST_NEIGHBOR"),
    *("DEPTH_TO_SPACE", "SPACE_TO_DEPTH", "BATCH_TO_SPACE_ND", "SPACE_TO_BATCH_ND"),
}
"""Operations that change no number: what they give is a place where the last of them gives it."""

_JOINS = "CONCATENATION"
"""Nor does this one, of int8 with one scale; but a graph may have it too."""


class Cut:
    """Two interpreters: one that only shows, and one whose parts are apart."""

    def __init__(self, path: Path, threads: int, method: str = "") -> None:
        from edgepass.runtimes.tflite._file import parse

        model, name_of = parse(path)
        _graphs.foremost(model, _graphs.graph_of(model, path, method))
        model.signatureDefs = None
        graph = model.subgraphs[0]
        tensors: Any = graph.tensors
        self.inputs = [int(i) for i in graph.inputs]
        self.outputs = [int(i) for i in graph.outputs]
        made = {
            int(i): name_of(op)
            for op in graph.operators
            for i in op.outputs
            if _is_place(tensors[i]) and int(i) not in self.outputs
        }
        read = {int(i) for op in graph.operators if name_of(op) not in _MOVES for i in op.inputs}
        self.shown = [i for i, name in made.items() if name not in _MOVES or i in read]
        sources = {int(i): [int(x) for x in op.inputs] for op in graph.operators for i in op.outputs}
        self.places = [
            Place(
                scales=frozenset({float(tensors[i].quantization.scale[0])}),
                zero=int(tensors[i].quantization.zeroPoint[0]),
                reads=reads(i, self.shown, sources),
                moves=made[i] in {_JOINS, *_MOVES},
            )
            for i in self.shown
        ]
        graph.outputs = [*self.outputs, *self.shown]
        self.whole = _interpreter(model, threads)
        self.given = {}
        for index in self.shown:
            fresh = copy.copy(tensors[index])
            fresh.name = f"edgepass given {index}".encode()
            tensors.append(fresh)
            self.given[index] = len(tensors) - 1
        for op in graph.operators:
            op.inputs = [self.given.get(int(i), int(i)) for i in op.inputs]
        graph.inputs = [*self.inputs, *self.given.values()]
        self.parts = _interpreter(model, threads)

    def __call__(self, inputs: Sequence[Array], given: Sequence[Array] | None) -> tuple[list[Array], list[Array]]:
        interpreter = self.whole if given is None else self.parts
        details = {d["index"]: d for d in interpreter.get_input_details()}
        for index, x in zip(self.inputs, inputs, strict=True):
            interpreter.set_tensor(index, quantize(x, details[index]))
        if given is not None:
            for index, q in zip(self.shown, given, strict=True):
                interpreter.set_tensor(self.given[index], q)
        interpreter.invoke()
        made = {d["index"]: d for d in interpreter.get_output_details()}
        shown = [interpreter.get_tensor(index).copy() for index in self.shown]
        return shown, [dequantize(interpreter.get_tensor(index).copy(), made[index]) for index in self.outputs]


def _is_place(tensor: Any) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    scales = getattr(tensor.quantization, "scale", None)
    return bool(tensor.type == schema.TensorType.INT8 and scales is not None and len(scales) == 1)


def _interpreter(model: Any, threads: int) -> Any:
    import flatbuffers
    from ai_edge_litert.interpreter import Interpreter

    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    interpreter = Interpreter(model_content=bytes(builder.Output()), num_threads=threads)
    interpreter.allocate_tensors()
    return interpreter
