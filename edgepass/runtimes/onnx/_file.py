"""Reads an .onnx: initialisers and how they are quantised, operations, shapes and lifetimes."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgepass.errors import DamagedError
from edgepass.judging.manifest import TensorSpec, Weight
from edgepass.runtimes import Array, Contents, Held, _arena, dequantized, plain
from edgepass.runtimes.onnx import _external

_NAMES = {"float": "float32", "double": "float64"}
_INDICES = {"int32", "int64", "bool", "string"}  # without a scale: shapes, axes, pads; no weights
# Operations that read quantised constants: position of the constant, of its scale if it takes one, of its zero point.
_QUANTIZED: dict[str, tuple[tuple[int, int | None, int], ...]] = {
    "DequantizeLinear": ((0, 1, 2),),
    "MatMulInteger": ((0, None, 2), (1, None, 3)),
    "ConvInteger": ((1, None, 3),),
    "QLinearConv": ((0, 1, 2), (3, 4, 5)),
    "QLinearMatMul": ((0, 1, 2), (3, 4, 5)),
}
_AXES = {"DequantizeLinear": 1, "MatMulInteger": -1, "QLinearMatMul": -1}
"""Channel axis where no attribute says; 0 for the others."""
_Granularity = Literal["per-tensor", "per-channel", "per-block"]


def inspect(path: Path) -> Contents:
    """What the main graph holds; operations are counted in nested graphs too, FLOPs are not.

    Weights are constants with a scale or a floating type; shape vectors are not. `planned_bytes` is a greedy plan over
    tensor lifetimes, None when a shape is dynamic or unknown; onnxruntime fuses operations and plans by itself.
    `delegated_flops` is None: onnxruntime's CPU provider executes every operation.
    Raises ArtifactError when the file holds no graph.
    """
    import onnx

    beside = _external.files(onnx.load(path, load_external_data=False), path)
    model = onnx.load(path)
    if not model.graph.node:
        raise DamagedError(f"{path} holds no graph")
    graph = _Graph(onnx.shape_inference.infer_shapes(model, data_prop=True).graph)
    notes = []
    held = graph.weights()
    flops, unknown = graph.flops()
    if unknown:
        notes.append(f"the FLOPs leave out {unknown} operation(s) whose shapes the file does not tell")
    return Contents(
        format="onnx",
        inputs=[_spec(x) for x in graph.proto.input if x.name not in graph.constants],
        outputs=[_spec(x) for x in graph.proto.output],
        weights=[weight for weight, _ in held],
        values=[value for _, value in held],
        ops=dict(sorted(Counter(_op(node) for node in _nodes(graph.proto)).items())),
        planned_bytes=graph.planned(),
        methods=[model.graph.name],
        flops=dict(sorted((+flops).items())),
        notes=notes,
        beside=beside,
    )


class _Graph:
    """The graph with its constants and the shapes of everything else."""

    def __init__(self, proto: Any) -> None:
        self.proto = proto
        self.constants: dict[str, Any] = {tensor.name: tensor for tensor in proto.initializer}
        for node in proto.node:
            if node.op_type == "Constant" and (value := _attributes(node).get("value")) is not None:
                self.constants[node.output[0]] = value
        self.readers: dict[str, list[Any]] = defaultdict(list)
        self.writers: dict[str, Any] = {}
        for node in proto.node:
            for read in node.input:
                self.readers[read].append(node)
            self.writers.update(dict.fromkeys(node.output, node))
        self.values = {x.name: x for x in (*proto.input, *proto.value_info, *proto.output)}

    def shape(self, name: str) -> tuple[int | None, ...] | None:
        if name in self.constants:
            return tuple(self.constants[name].dims)
        value = self.values.get(name)
        return _shape(value) if value is not None else None

    def weights(self) -> list[Held]:
        uses = {}
        for node in self.proto.node:
            for at, scale, zero in _QUANTIZED.get(node.op_type, ()):
                if len(node.input) > at and node.input[at] in self.constants:
                    uses[node.input[at]] = (node, scale, zero)
            if node.op_type == "MatMulNBits":
                uses[node.input[1]] = (node, 2, 3)
        found = []
        for name, tensor in self.constants.items():
            if math.prod(tensor.dims) > 1 and (name in uses or _dtype(tensor.data_type) not in _INDICES):
                found.append(self.weight(name, tensor, *uses.get(name, (None, None, 0))))
        # A scale or a zero point is part of the weight that it scales.
        parts = {node.input[i] for node, *places in uses.values() for i in places if i and len(node.input) > i}
        parts |= {name for node, *_ in uses.values() if (name := self.integer_scale(node))}
        return [(replace(w, layout=self.layout(w.name)), v) for w, v in found if w.name not in parts]

    def weight(self, name: str, tensor: Any, node: Any, scale_at: int | None, zero_at: int) -> Held:
        from onnx import numpy_helper

        raw: NDArray[Any] = numpy_helper.to_array(tensor)
        dtype, shape = _dtype(tensor.data_type), tuple(tensor.dims)
        if node is None:
            return Weight(name=name, shape=shape, dtype=dtype, zeros=float(np.mean(raw == 0))), plain(raw)
        attributes = _attributes(node)
        if node.op_type == "MatMulNBits":
            return _matmul_nbits(name, raw, attributes, zero_point=len(node.input) > 3 and bool(node.input[3])), None
        zero: Any = 0
        zero_name = node.input[zero_at] if len(node.input) > zero_at else ""
        if zero_name in self.constants:
            zero = numpy_helper.to_array(self.constants[zero_name]).astype(np.int64)
        scale_name = node.input[scale_at] if scale_at is not None else self.integer_scale(node) or zero_name
        scales = math.prod(self.constants[scale_name].dims) if scale_name in self.constants else 1
        block = int(attributes.get("block_size", 0))
        granularity: _Granularity = "per-block" if block else "per-channel" if scales > 1 else "per-tensor"
        axis = int(attributes.get("axis", _AXES.get(node.op_type, 0)))
        values: Array | None = None
        if scale_name in self.constants and scale_name != zero_name:
            scale = numpy_helper.to_array(self.constants[scale_name])
            values = dequantized(raw, scale, zero, axis=axis, block=block)
        if block:
            zero = np.repeat(zero, block, axis=axis)[tuple(slice(n) for n in shape)] if np.ndim(zero) else zero
        elif np.size(zero) > 1:
            zero = np.reshape(zero, [-1 if i == axis % len(shape) else 1 for i in range(len(shape))])
        zeros = float(np.mean(raw.astype(np.int64) == zero))
        return Weight(name=name, shape=shape, dtype=dtype, granularity=granularity, zeros=zeros), values

    def integer_scale(self, node: Any) -> str:
        """The scale of a weight that an integer product reads: beside the input's, behind the product; "" for none.

        onnxruntime's own quantiser writes Mul(Cast(product), Mul(scale of the input, scale of the weight)); that of the
        input is a constant too where a lookup in int8 comes before.
        """
        if node.op_type not in {"MatMulInteger", "ConvInteger"}:
            return ""
        for cast in self.readers[node.output[0]]:
            for product in self.readers[cast.output[0]] if cast.op_type == "Cast" else ():
                for name in product.input if product.op_type == "Mul" else ():
                    scales = self.writers.get(name)
                    if scales is not None and scales.op_type == "Mul":
                        return next((s for s in reversed(scales.input) if s in self.constants), "")
        return ""

    def layout(self, name: str) -> str | None:
        """Letters for the dimensions of a constant, as the operation reads it that it reaches unchanged."""
        order = list(range(len(self.constants[name].dims)))
        readers = self.readers[name]
        while readers and readers[0].op_type in {"DequantizeLinear", "Cast", "Transpose"}:
            if readers[0].op_type == "Transpose":
                perm = _attributes(readers[0]).get("perm") or range(len(order))[::-1]
                order = [order[i] for i in perm]
            name = readers[0].output[0]
            readers = self.readers[name]
        read_as = _read_as(readers[0], list(readers[0].input).index(name), len(order)) if readers else None
        return read_as and "".join(read_as[order.index(i)] for i in range(len(order)))

    def flops(self) -> tuple[Counter[str], int]:
        """Twice the multiply-adds by operation, and how many matrix operations have unknown shapes."""
        found: Counter[str] = Counter()
        unknown = 0
        for node in self.proto.node:
            try:
                found[_op(node)] += _flops(node, self.shape)
            except (TypeError, IndexError, KeyError):
                unknown += 1
        return found, unknown

    def planned(self) -> int | None:
        sizes: dict[int | str, int] = {}
        names = {name for node in self.proto.node for name in node.output if name} | set(self.values)
        for name in names - set(self.constants):
            shape, value = self.shape(name), self.values.get(name)
            if shape is None or value is None or not all(isinstance(n, int) for n in shape):
                return None
            sizes[name] = math.ceil(math.prod(n or 0 for n in shape) * _bits(value.type.tensor_type.elem_type) / 8)
        nodes = [_arena.Node(reads=list(node.input), writes=list(node.output)) for node in self.proto.node]
        return _arena.plan(nodes, [x.name for x in self.proto.input], [x.name for x in self.proto.output], sizes)


def _read_as(node: Any, position: int, rank: int) -> str | None:
    """The layout that an operation reads its input at `position` in."""
    kernel = "DHW"[3 - (rank - 2) :] if 2 <= rank <= 5 else ""
    match node.op_type, position:
        case ("Gemm", 1) if rank == 2:
            return "OI" if _attributes(node).get("transB", 0) else "IO"
        case ("MatMul" | "MatMulInteger", 1) | ("QLinearMatMul", 3) if rank == 2:
            return "IO"
        case ("Conv" | "ConvInteger", 1) | ("QLinearConv", 3):
            return f"OI{kernel}"
        case "ConvTranspose", 1:
            return f"IO{kernel}"
        case _:
            return None


def _flops(node: Any, shape: Any) -> int:
    attributes = _attributes(node)
    output = node.output[0]

    def count(name: str) -> int:
        return int(math.prod(shape(name)))

    match node.op_type:
        case "MatMul" | "MatMulInteger" | "QLinearMatMul":
            return 2 * count(output) * int(shape(node.input[0])[-1])
        case "MatMulNBits":
            return 2 * count(output) * int(attributes["K"])
        case "Gemm":
            return 2 * count(output) * int(shape(node.input[0])[0 if attributes.get("transA", 0) else 1])
        case "Conv" | "ConvInteger" | "QLinearConv":
            weight = shape(node.input[3 if node.op_type == "QLinearConv" else 1])
            return 2 * count(output) * int(math.prod(weight[1:]))
        case "ConvTranspose":
            return 2 * count(node.input[0]) * int(math.prod(shape(node.input[1])[1:]))
        case _:
            return 0


def _matmul_nbits(name: str, packed: NDArray[Any], attributes: dict[str, Any], *, zero_point: bool) -> Weight:
    """A weight of onnxruntime's MatMulNBits: [N, blocks, bytes], low bits first; zero is 2^(bits-1)."""
    bits, k, n = int(attributes.get("bits", 4)), int(attributes["K"]), int(attributes["N"])
    mask = (1 << bits) - 1
    values = np.stack([(packed >> shift) & mask for shift in range(0, 8, bits)], axis=-1).reshape(n, -1)[:, :k]
    zeros = 0.0 if zero_point else float(np.mean(values == 1 << (bits - 1)))
    return Weight(name=name, shape=(n, k), dtype=f"int{bits}", granularity="per-block", zeros=zeros)


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for nested in (attribute.g, *attribute.graphs):
                yield from _nodes(nested)


def _op(node: Any) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain not in {"", "ai.onnx"} else node.op_type


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _spec(value: Any) -> TensorSpec:
    shape = _shape(value) or ()
    return TensorSpec(name=value.name, shape=shape, dtype=_dtype(value.type.tensor_type.elem_type))


def _shape(value: Any) -> tuple[int | None, ...] | None:
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)


def _dtype(elem_type: int) -> str:
    from onnx import TensorProto

    name: str = TensorProto.DataType.Name(elem_type).lower()
    return _NAMES.get(name, name)


def _bits(elem_type: int) -> int:
    from onnx import helper

    name = _dtype(elem_type)
    return 4 if name in {"int4", "uint4"} else 8 * int(helper.tensor_dtype_to_np_dtype(elem_type).itemsize)
