"""Reads the payload that a .pte hands to XNNPACK: its operations, weights and matrix work.

The format is ExecuTorch's: a header XH00 (executorch/backends/xnnpack/serialization/xnnpack_graph_serialize.py), then a
flatbuffer of schema.fbs beside it, then constants. Newer files keep the
constants in the program's named data instead, under the SHA-256 of their bytes.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgepass.judging.manifest import Weight
from edgepass.runtimes import Array, Held, dequantized
from edgepass.runtimes.executorch import _flatc
from edgepass.runtimes.executorch._payload import Payload

_HEADER = b"XH00"
_BARE = b"XN01"  # a payload without header, as written before constants left the flatbuffer
# dtype of the numbers, numpy dtype of the bytes, granularity
_DATATYPES: dict[str, tuple[str, str, Literal["per-tensor", "per-channel", "per-block"] | None]] = {
    "fp32": ("float32", "f4", None),
    "fp16": ("float16", "f2", None),
    "bf16": ("bfloat16", "u2", None),
    "int32": ("int32", "i4", None),
    "qint8": ("int8", "i1", "per-tensor"),
    "quint8": ("uint8", "u1", "per-tensor"),
    "qint32": ("int32", "i4", "per-tensor"),
    "qcint8": ("int8", "i1", "per-channel"),
    "qcint32": ("int32", "i4", "per-channel"),
    "qcint4": ("int4", "u1", "per-channel"),
    "qbint4": ("int4", "u1", "per-block"),
}
_TRANSPOSE_WEIGHTS = 1  # XNN_FLAG_TRANSPOSE_WEIGHTS of xnnpack.h
_INT4_ZERO = 8  # nibbles are stored as value + 8 (operators/node_visitor.py, convert_to_qc4w)


@dataclass(frozen=True, kw_only=True)
class _Value:
    shape: tuple[int, ...]
    datatype: str
    zero_point: int
    constant: int
    id: int
    scale: Any
    """One number, or one for each index of `axis`; None of a tensor that has none, or has one for each block."""
    axis: int | None


def parse(payload: bytes, named_data: Mapping[str, bytes], index: int) -> Payload:
    """Read the payload of the index-th delegate. Raises ValueError when it is not XNNPACK's."""
    if payload[4:8] == _HEADER:
        start, size, base = (int.from_bytes(payload[i : i + 4], "little") for i in (10, 14, 18))
        graph = _flatc.decode(payload[start : start + size], _flatc.XNNPACK)
    elif payload[4:8] == _BARE:
        base, graph = 0, _flatc.decode(payload, _flatc.XNNPACK)
    else:
        raise ValueError(f"delegate {index} holds no XNNPACK payload")
    values = {v.id: v for v in map(_value, graph["xvalues"])}
    ops: Counter[str] = Counter()
    flops: Counter[str] = Counter()
    for node in graph["xnodes"]:
        kind = node["xnode_union_type"].removeprefix("XNN")
        ops[kind] += 1
        flops[kind] += _flops(kind, node["xnode_union"], values)

    def constant(number: int) -> tuple[str, bytes]:
        place = graph["constant_data"][number]
        key = place.get("named_key", "")
        offset = base + place["offset"]
        return key, named_data[key] if key else payload[offset : offset + place["size"]]

    layouts = _layouts(graph["xnodes"])
    held = []
    for value in values.values():
        if value.constant and math.prod(value.shape) > 1:
            key, data = constant(value.constant)
            if isinstance(value.scale, int):
                value = replace(value, scale=np.frombuffer(constant(value.scale)[1], "f4"))
            held.append(_weight(key or f"delegate {index} value {value.id}", value, data, layouts.get(value.id)))
    return Payload(weights=[w for w, _ in held], values=[v for _, v in held], ops=ops, flops=+flops)


def _layouts(nodes: Sequence[Any]) -> dict[int, str]:
    """Letters for the dimensions of each value that is the weight of an operation."""
    found: dict[int, str] = {}
    for node in nodes:
        union = node["xnode_union"]
        match node["xnode_union_type"].removeprefix("XNN"):
            case "FullyConnected":
                found[union["filter_id"]] = "IO" if union["flags"] & _TRANSPOSE_WEIGHTS else "OI"
            case "Conv2d" | "ConvTranspose2d":
                found[union["filter_id"]] = "OHWI"
            case "DepthwiseConv2d":
                found[union["filter_id"]] = "IHWO"
            case _:
                pass
    return found


def _value(xvalue: Any) -> _Value:
    union = xvalue["xvalue_union"]
    tensor = union.get("tensor_value", union)
    quantization = union.get("quant_params", {})
    scale = quantization.get("scale")
    if "scale_buffer_idx" in quantization and not scale:
        scale = quantization["scale_buffer_idx"]  # an int here: where the constants hold them
    if "group_size" in quantization:
        scale = None
    return _Value(
        shape=tuple(tensor.get("dims") or ()),
        datatype=tensor["datatype"].removeprefix("xnn_datatype_"),
        zero_point=union.get("quant_params", {}).get("zero_point", 0),
        constant=tensor["constant_buffer_idx"],
        id=tensor["id_out"],
        scale=scale,
        axis=quantization.get("channel_dim"),
    )


def _weight(name: str, value: _Value, data: bytes, layout: str | None) -> Held:
    dtype, storage, granularity = _DATATYPES.get(value.datatype, (value.datatype, "u1", None))
    raw: NDArray[Any] = np.frombuffer(data, storage)
    zero = value.zero_point
    if dtype == "int4":
        raw, zero = np.stack([raw & 15, raw >> 4], axis=1).ravel(), _INT4_ZERO
        if value.shape[-1] % 2:  # rows are padded to whole bytes
            raw = raw.reshape(-1, value.shape[-1] + 1)[:, :-1].ravel()
    raw = raw[: math.prod(value.shape)]
    values: Array | None = None
    if dtype == "bfloat16":
        values = (raw.astype(np.uint32) << 16).view(np.float32).reshape(value.shape)
        raw = raw & 0x7FFF  # a negative zero is a zero
    elif granularity is None and raw.size == math.prod(value.shape):
        values = raw.astype(np.float32).reshape(value.shape)
    elif value.scale is not None and raw.size == math.prod(value.shape):
        values = dequantized(raw.reshape(value.shape), value.scale, zero, axis=value.axis)
    zeros = float(np.mean(raw == zero)) if raw.size else 0.0
    return Weight(
        name=name, shape=value.shape, dtype=dtype, granularity=granularity, zeros=zeros, layout=layout
    ), values


def _flops(kind: str, node: Any, values: Mapping[int, _Value]) -> int:
    """Twice the multiply-adds; activations are NHWC, whose order does not change a count."""

    def shape(key: str) -> tuple[int, ...]:
        return values[node[key]].shape

    match kind:
        case "FullyConnected":
            output = shape("output_id")
            return 2 * math.prod(output) * math.prod(shape("filter_id")) // max(1, output[-1])
        case "BatchMatrixMultiply":
            return 2 * math.prod(shape("output_id")) * shape("input1_id")[-1]
        case "Conv2d" | "DepthwiseConv2d":
            kernel = node["kernel_height"] * node["kernel_width"] * node["group_input_channels"]
            return int(2 * math.prod(shape("output_id")) * kernel)
        case "ConvTranspose2d":
            kernel = node["kernel_height"] * node["kernel_width"] * node["group_output_channels"]
            return int(2 * math.prod(shape("input1_id")) * kernel)
        case "ScaledDotProductAttention":
            query, key, output = shape("query_id"), shape("key_id"), shape("output_id")
            return 2 * (math.prod(query) + math.prod(output)) * key[-2]
        case _:
            return 0
