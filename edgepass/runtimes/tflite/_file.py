"""Reads a .tflite: weights, operations, lifetimes, and which operations XNNPACK takes."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepass.errors import DamagedError
from edgepass.judging.manifest import Fallback, TensorSpec, Weight
from edgepass.runtimes import Array, Contents, Held, _arena, dequantized
from edgepass.runtimes.tflite import _graphs

_MARK = b"TFL3"
_HYBRID_VERSION = 12  # of FULLY_CONNECTED, the first whose kernels know float input with per-channel weights
_INDICES = {"INT32", "INT64", "BOOL", "STRING"}  # without a scale: shapes, axes, paddings; no weights
_NUMPY = {"FLOAT32": "f4", "FLOAT16": "f2", "FLOAT64": "f8", "BFLOAT16": "u2", "INT8": "i1", "UINT8": "u1"} | {
    "INT16": "i2", "UINT16": "u2", "INT32": "i4", "UINT32": "u4", "INT64": "i8", "UINT64": "u8", "BOOL": "?"
}  # fmt: skip
_LAYOUTS = {
    "FULLY_CONNECTED": "OI",
    "CONV_2D": "OHWI",
    "DEPTHWISE_CONV_2D": "IHWO",
    "TRANSPOSE_CONV": "OHWI",
    "CONV_3D": "DHWIO",
}
"""Operation -> how it reads its second input."""
_PACKED = {"INT4": 4, "UINT4": 4, "INT2": 2}  # bits of an element


def inspect(path: Path, method: str = "") -> Contents:
    """What the subgraph of a signature holds, with those it calls; of the first one where none is named.

    Weights are constants with a scale or a floating type; shape vectors are not. `planned_bytes` is a greedy plan over
    tensor lifetimes of that subgraph, as TFLite makes one; weights, also repacked ones, come on top; None when a
    shape is dynamic. An operation counts as delegated when the interpreter's default XNNPACK delegate takes it.
    Raises ArtifactError when the bytes are no TFLite model.
    """
    from ai_edge_litert import schema_py_generated as schema

    data = path.read_bytes()
    if data[4:8] != _MARK:
        raise DamagedError(f"{path} is not a TFLite file (it lacks the mark TFL3)")
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    number = _graphs.graph_of(model, path, method)
    graph = model.subgraphs[number] if model.subgraphs else None
    if graph is None or graph.operators is None:
        raise DamagedError(f"{path} holds no graph")
    reader = _Reader(model, data)
    signatures = list(_graphs.graphs(model))
    notes = reader.notes(graph)
    if len(signatures) > 1 and not method:
        notes = [f"the file has {len(signatures)} signatures, this is the first", *notes]
    held = reader.weights(graph)
    flops = [reader.flops(graph, op) for op in graph.operators]
    by_name: Counter[str] = Counter()
    for op, n in zip(graph.operators, flops, strict=True):
        by_name[reader.name(op)] += n
    delegated, why = _delegated(path, number, [reader.name(op) for op in graph.operators])
    fallbacks, share = Counter[str](), None
    if delegated is None:
        notes.append(why)
    else:
        fallbacks.update(reader.name(op) for i, op in enumerate(graph.operators) if i not in delegated)
        total = sum(flops)
        empty = 1.0 if delegated else 0.0
        share = sum(n for i, n in enumerate(flops) if i in delegated) / total if total else empty
    return Contents(
        format="tflite",
        inputs=reader.specs(number, "inputs"),
        outputs=reader.specs(number, "outputs"),
        weights=[weight for weight, _ in held],
        values=[value for _, value in held],
        ops=dict(sorted(reader.count(graph).items())),
        planned_bytes=reader.planned(graph),
        flops=dict(sorted((+by_name).items())),
        delegated_flops=share,
        fallbacks=[
            Fallback(
                op=f"{name} x{n}" if n > 1 else name, module="", reason="runs on TFLite's own kernels, not XNNPACK's"
            )
            for name, n in sorted(fallbacks.items())
        ],
        notes=notes,
        methods=signatures,
    )


def parse(path: Path) -> tuple[Any, Callable[[Any], str]]:
    """The model, to be changed, and what names an operation of it."""
    from ai_edge_litert import schema_py_generated as schema

    data = path.read_bytes()
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    return model, _Reader(model, data).name


class _Reader:
    """The parsed model with its enumerations by name."""

    def __init__(self, model: Any, data: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.model, self.data = model, data
        self.types = {v: k for k, v in vars(schema.TensorType).items() if k.isupper()}
        self.builtins = {v: k for k, v in vars(schema.BuiltinOperator).items() if k.isupper()}
        self.blockwise = schema.QuantizationDetails.BlockwiseQuantization

    def name(self, op: Any) -> str:
        code = self.model.operatorCodes[op.opcodeIndex]
        # Codes under 127 were written to the older byte field, and by some converters to that alone (schema.fbs).
        name = self.builtins.get(max(code.deprecatedBuiltinCode, code.builtinCode), "UNKNOWN")
        return _text(code.customCode) if name == "CUSTOM" else name

    def callees(self, op: Any) -> list[Any]:
        """Subgraphs that the operation runs: a composite's decomposition, the arms of IF, both parts of WHILE."""
        keys = ("subgraph", "thenSubgraphIndex", "elseSubgraphIndex", "condSubgraphIndex", "bodySubgraphIndex")
        found = [getattr(op.builtinOptions, key, None) for key in keys]
        found.append(getattr(op.builtinOptions2, "decompositionSubgraphIndex", None))
        return [self.model.subgraphs[i] for i in found if i is not None and 0 < i < len(self.model.subgraphs)]

    def count(self, graph: Any, depth: int = 0) -> Counter[str]:
        ops = Counter(self.name(op) for op in graph.operators)
        if depth < len(self.model.subgraphs):  # a corrupt file may call in a circle
            for op in graph.operators:
                for callee in self.callees(op):
                    ops += self.count(callee, depth + 1)
        return ops

    def flops(self, graph: Any, op: Any, depth: int = 0) -> int:
        """Twice the multiply-adds, those of called subgraphs included once."""
        called = 0
        if depth < len(self.model.subgraphs):
            called = sum(self.flops(g, o, depth + 1) for g in self.callees(op) for o in g.operators)
        shapes = [_shape(graph.tensors[i]) if i >= 0 else () for i in op.inputs]
        output = math.prod(_shape(graph.tensors[op.outputs[0]])) if len(op.outputs) else 0
        match self.name(op), shapes:
            case "FULLY_CONNECTED" | "CONV_2D", [_, weight, *_]:
                return 2 * output * math.prod(weight[1:])
            case "DEPTHWISE_CONV_2D", [_, weight, *_]:
                return 2 * output * math.prod(weight[1:3])
            case "CONV_3D", [_, weight, *_]:
                return 2 * output * math.prod(weight[:4])
            case "TRANSPOSE_CONV", [_, weight, x, *_]:
                return 2 * math.prod(x) * math.prod(weight[:3])
            case "BATCH_MATMUL", [x, _]:
                return 2 * output * x[-2 if getattr(op.builtinOptions, "adjX", False) else -1]
            case _:
                return called

    def reached(self, graph: Any) -> list[Any]:
        """The graph, and those that it calls; of a file with one signature, all there are."""
        if len(self.model.signatureDefs or ()) < 2:
            return list(self.model.subgraphs)
        found = [graph]
        for each in found:  # which grows as it is read
            found += [g for op in each.operators for g in self.callees(op) if not any(g is known for known in found)]
        return found

    def weights(self, of: Any) -> list[Held]:
        found: dict[tuple[int, int], Held] = {}
        for graph in self.reached(of):
            layouts = self.layouts(graph)
            for i, tensor in enumerate(graph.tensors):
                raw = self.raw(tensor)
                scaled = tensor.quantization is not None and _length(tensor.quantization.scale) > 0
                is_index = self.types.get(tensor.type) in _INDICES and not scaled
                if raw.size and math.prod(_shape(tensor)) > 1 and not is_index:
                    held = self.weight(tensor, raw, layouts.get(i))
                    found.setdefault((tensor.buffer, tensor.type), held)  # signatures share them
        return list(found.values())

    def raw(self, tensor: Any) -> Array:
        buffer = self.model.buffers[tensor.buffer]
        if buffer.data is not None and len(buffer.data):
            return np.asarray(buffer.data, np.uint8)
        start, size = getattr(buffer, "offset", 0), getattr(buffer, "size", 0)  # past 2 GB they lie behind the model
        return np.frombuffer(self.data[start : start + size] if start > 1 else b"", np.uint8)

    def layouts(self, graph: Any) -> dict[int, str]:
        """Letters for the dimensions of each constant, as the operation reads it that it reaches unchanged."""
        found: dict[int, str] = {}
        for op in reversed(graph.operators):
            name, second = self.name(op), int(op.inputs[1]) if len(op.inputs) > 1 else -1
            if name in _LAYOUTS and second >= 0:
                found[second] = _LAYOUTS[name]
            elif name == "BATCH_MATMUL" and len(_shape(graph.tensors[second])) == 2:
                found[second] = "OI" if op.builtinOptions.adjY else "IO"
            elif name == "DEQUANTIZE" and int(op.outputs[0]) in found:
                found[int(op.inputs[0])] = found[int(op.outputs[0])]
        return found

    def weight(self, tensor: Any, raw: Array, layout: str | None) -> Held:
        kind, shape, quantization = self.types.get(tensor.type, "UNKNOWN"), _shape(tensor), tensor.quantization
        scales = _length(quantization.scale) if quantization is not None else 0
        granularity = None
        if quantization is not None and quantization.detailsType == self.blockwise:
            granularity = "per-block"
        elif scales:
            granularity = "per-channel" if scales > 1 else "per-tensor"
        weight = Weight(
            name=_text(tensor.name),
            shape=shape,
            dtype=kind.lower(),
            granularity=granularity,  # type: ignore[arg-type]
            zeros=_zeros(raw, kind, shape, quantization, tensor.sparsity is not None),
            layout=layout,
        )
        known = granularity != "per-block" and tensor.sparsity is None
        return weight, _values(raw, kind, shape, quantization) if known else None

    def planned(self, graph: Any) -> int | None:
        sizes: dict[int | str, int] = {}
        # A constant made float when the file loads is a weight still.
        unpacked = {
            int(op.outputs[0])
            for op in graph.operators
            if self.name(op) == "DEQUANTIZE" and self.raw(graph.tensors[op.inputs[0]]).size
        }
        for i, tensor in enumerate(graph.tensors):
            kind = self.types.get(tensor.type, "UNKNOWN")
            if any(n < 0 for n in _signature(tensor)) or kind in {"STRING", "RESOURCE", "VARIANT", "UNKNOWN"}:
                return None
            if not self.raw(tensor).size and i not in unpacked:
                bits = _PACKED.get(kind) or 8 * np.dtype(_NUMPY.get(kind, "c8")).itemsize
                sizes[i] = math.ceil(math.prod(_shape(tensor)) * bits / 8)
        nodes = [
            _arena.Node(reads=[int(i) for i in op.inputs], writes=[int(i) for i in op.outputs])
            for op in graph.operators
        ]
        return _arena.plan(nodes, [int(i) for i in graph.inputs], [int(i) for i in graph.outputs], sizes)

    def specs(self, number: int, side: str) -> list[TensorSpec]:
        graph, names = self.model.subgraphs[number], {}
        for signature in self.model.signatureDefs or []:
            if signature.subgraphIndex == number:
                names = {entry.tensorIndex: _text(entry.name) for entry in getattr(signature, side)}
                break
        tensors = [(names.get(i, _text(graph.tensors[i].name)), graph.tensors[i]) for i in getattr(graph, side)]
        return [
            TensorSpec(
                name=name,
                shape=tuple(None if n < 0 else n for n in _signature(tensor)),
                dtype=self.types.get(tensor.type, "UNKNOWN").lower(),
            )
            for name, tensor in tensors
        ]

    def notes(self, graph: Any) -> list[str]:
        notes = []
        old = 0
        for op in graph.operators:
            code = self.model.operatorCodes[op.opcodeIndex]
            if self.name(op) == "FULLY_CONNECTED" and code.version < _HYBRID_VERSION and op.inputs[1] >= 0:
                x, weight = graph.tensors[op.inputs[0]], graph.tensors[op.inputs[1]]
                scales = _length(weight.quantization.scale) if weight.quantization is not None else 0
                old += (
                    self.types.get(x.type) == "FLOAT32"
                    and self.types.get(weight.type) in {"INT8", "INT4"}
                    and scales > 1
                )
        if old:
            notes.append(
                f"{old} FULLY_CONNECTED have float input and per-channel integer weights but a version under "
                f"{_HYBRID_VERSION}: TFLite runtimes up to 2.14 accept the file and compute wrong results"
            )
        return notes


def _delegated(path: Path, number: int, names: Sequence[str]) -> tuple[set[int] | None, str]:
    """Indices of the operations of that graph that the default delegate takes, or None and why that is unknown.

    The interpreter appends a DELEGATE node per part and keeps the nodes it replaces in the list, so the part is what
    its outputs need, walking back as far as its inputs.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        given: dict[str, Any] = {"model_content": _graphs.alone(path, number)} if number else {"model_path": str(path)}
        interpreter = Interpreter(num_threads=1, **given)
        interpreter.allocate_tensors()
        details = interpreter._get_ops_details()
    except Exception as error:  # an operation that this runtime lacks; the rest of the file can be read all the same
        return None, f"what is delegated is unknown, for LiteRT does not load the file: {str(error)[:200]}"
    nodes = [d for d in details if d["op_name"] != "DELEGATE"]
    if [d["op_name"] for d in nodes] != list(names):
        return None, "what is delegated is unknown, for LiteRT changes the graph before it delegates"
    writers = {int(t): i for i, d in enumerate(nodes) for t in d["outputs"]}
    taken: set[int] = set()
    for part in (d for d in details if d["op_name"] == "DELEGATE"):
        stop, todo = set(map(int, part["inputs"])), [int(t) for t in part["outputs"]]
        while todo:
            index = writers.get(todo.pop())
            if index is not None and index not in taken:
                taken.add(index)
                todo.extend(int(t) for t in nodes[index]["inputs"] if int(t) not in stop)
    return taken, ""


def _zeros(raw: NDArray[Any], kind: str, shape: tuple[int, ...], quantization: Any, sparse: bool) -> float:
    """Fraction of elements that stand for zero."""
    values: NDArray[Any] = raw
    zero: Any = 0
    axis = 0
    if quantization is not None and _length(quantization.zeroPoint):
        zero = np.asarray(quantization.zeroPoint)
        zero = zero[0] if (zero == zero[0]).all() else zero
        axis = quantization.quantizedDimension
    if bits := _PACKED.get(kind):
        mask = (1 << bits) - 1
        values = np.stack([(raw >> shift) & mask for shift in range(0, 8, bits)], axis=1).ravel()
        zero = zero & mask
    elif kind in _NUMPY:
        values = raw.view(np.dtype(_NUMPY[kind]))
        values = values & 0x7FFF if kind == "BFLOAT16" else values
    total = math.prod(shape)
    if sparse:  # only the kept elements are stored
        return 1.0 - float(np.count_nonzero(values != zero)) / total
    values = values[:total]
    if np.ndim(zero):
        zero = zero.reshape([-1 if i == axis else 1 for i in range(len(shape))])
        values = values.reshape(shape)
    return float(np.mean(values == zero))


def _values(raw: NDArray[Any], kind: str, shape: tuple[int, ...], quantization: Any) -> Array | None:
    """What the elements stand for; None for a type that numpy lacks."""
    if bits := _PACKED.get(kind):
        parts = np.stack([(raw >> shift) & ((1 << bits) - 1) for shift in range(0, 8, bits)], axis=1).ravel()
        signed = (parts.astype(np.int16) ^ (1 << (bits - 1))) - (1 << (bits - 1)) if kind[0] == "I" else parts
        values: NDArray[Any] = signed[: math.prod(shape)]
    elif kind == "BFLOAT16":
        values = (raw.view("u2").astype(np.uint32) << 16).view(np.float32)
    elif kind in _NUMPY:
        values = raw.view(np.dtype(_NUMPY[kind]))
    else:
        return None
    if values.size < math.prod(shape):
        return None
    values = values[: math.prod(shape)].reshape(shape)
    if quantization is None or not _length(quantization.scale):
        return values.astype(np.float32)
    zero = quantization.zeroPoint if _length(quantization.zeroPoint) else 0
    return dequantized(values, quantization.scale, zero, axis=quantization.quantizedDimension)


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in tensor.shape) if tensor.shape is not None else ()


def _signature(tensor: Any) -> tuple[int, ...]:
    signature = tensor.shapeSignature
    return tuple(int(n) for n in signature) if _length(signature) else _shape(tensor)


def _length(vector: Any) -> int:
    return 0 if vector is None else len(vector)


def _text(name: bytes | str | None) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else name or ""
