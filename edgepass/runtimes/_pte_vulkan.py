"""Reads the graph that a .pte hands to Vulkan.

The format is ExecuTorch's: a header VH00 (backends/vulkan/serialization/vulkan_graph_serialize.py), then a flatbuffer
of schema.fbs beside it; constants are in the program's named data, under the SHA-256 of their bytes.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from edgepass.manifest import Weight
from edgepass.runtimes import Session, _flatc
from edgepass.runtimes._payload import Payload

_HEADER = b"VH00"
_PREPACK = "et_vk.prepack.default"  # a constant, laid out for the GPU
DTYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "FLOAT16": "float16",
    "FLOAT32": "float32",
    "FLOAT64": "float64",
}


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor of the graph; `key` names its data among the program's where it is constant."""

    shape: tuple[int, ...]
    dtype: str
    key: str | None


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Calls of operations by name, with the numbers of their arguments' values, that of the output last.

    A value is a Tensor, a number, a string, None, a list of numbers, or a tuple of the numbers of further values.
    """

    calls: list[tuple[str, list[int]]]
    values: list[Any]
    inputs: list[int]
    outputs: list[int]


def prepare() -> None:
    """Import what running a payload needs."""
    import_module("edgepass.runtimes._vulkan").warm()


def parse(payload: bytes, named_data: Mapping[str, bytes], index: int) -> Payload:
    """Read the payload of the index-th delegate. Raises ValueError when it is not Vulkan's."""
    graph = read(payload, index)
    flops: Counter[str] = Counter()
    for name, args in graph.calls:
        flops[name] += _flops(name, [graph.values[i] for i in args])
    layers = _int8_layers(graph)
    weights = [
        _weight(value, named_data[value.key], layers.get(number))
        for number, value in enumerate(graph.values)
        if isinstance(value, Tensor) and value.key and math.prod(value.shape) > 1
    ]
    return Payload(weights=weights, ops=Counter(name for name, _ in graph.calls), flops=+flops)


def load(payload: bytes, named_data: Mapping[str, bytes], threads: int) -> Session:
    """The reference executor of the graph. Raises DeviceOnlyError for an operation that it lacks."""
    from edgepass.runtimes import _vulkan

    return _vulkan.Executor(read(payload, 0), named_data, threads)


def read(payload: bytes, index: int) -> Graph:
    """The graph of the index-th delegate. Raises ValueError when it is not Vulkan's."""
    if payload[4:8] != _HEADER:
        raise ValueError(f"delegate {index} holds no Vulkan graph")
    start, size = (int.from_bytes(payload[i : i + 4], "little") for i in (10, 14))
    raw = _flatc.decode(payload[start : start + size], _flatc.VULKAN)
    constants = raw["constants"]
    return Graph(
        calls=[(call["name"], call["args"]) for call in raw["chain"]],
        values=[_value(value, constants) for value in raw["values"]],
        inputs=raw["input_ids"],
        outputs=raw["output_ids"],
    )


def _value(raw: Mapping[str, Any], constants: list[Any]) -> Any:
    value = raw.get("value") or {}
    match raw["value_type"]:
        case "Null":
            return None
        case "VkTensor":
            constant = value["constant_id"]
            key = constants[constant]["named_key"] if constant >= 0 else None
            return Tensor(shape=tuple(value["dims"]), dtype=DTYPES[value["datatype"]], key=key)
        case "ValueList":
            return tuple(value["items"])
        case _:
            (held,) = value.values()
            return held


def _int8_layers(graph: Graph) -> dict[int, tuple[int, ...]]:
    """Value of an int8 weight -> its shape in the model: it may be flattened, and padded to a multiple of four."""
    packed = {args[-1]: args[0] for name, args in graph.calls if name == _PREPACK}
    shapes: dict[int, tuple[int, ...]] = {}
    for name, numbers in graph.calls:
        args = [graph.values[number] for number in numbers]
        match name.split(".")[1]:
            case "dequantize_per_channel":
                shapes[packed.get(numbers[0], numbers[0])] = args[0].shape
            case "q8ta_linear" | "q8ta_linear_gemv":
                shapes[numbers[3]] = (args[-1].shape[-1], args[0].shape[-1])
            case "q8ta_conv2d" | "q8ta_conv2d_pw" | "q8ta_conv2d_dw":
                shapes[numbers[3]] = (args[-1].shape[1], args[0].shape[1] // args[13], *args[9])
    return shapes


def _weight(tensor: Tensor, data: bytes, layer: tuple[int, ...] | None) -> Weight:
    """A constant. As an int8 weight it has scales for each output."""
    raw = np.frombuffer(data, tensor.dtype)[: math.prod(tensor.shape)]
    if layer:
        zeros = 1.0 - float(np.count_nonzero(raw)) / math.prod(layer)  # what pads it is zero
    else:
        zeros = float(np.mean(raw == 0)) if raw.size else 0.0
    return Weight(
        name=tensor.key or "",
        shape=layer or tensor.shape,
        dtype=tensor.dtype,
        granularity="per-channel" if layer else None,
        zeros=zeros,
    )


def _flops(name: str, args: list[Any]) -> int:
    """Twice the multiply-adds of a call, from the shapes of its tensors; the output is the last."""
    tensors = [value.shape for value in args if isinstance(value, Tensor)]
    output = math.prod(tensors[-1]) if tensors else 0
    match name.split(".")[1]:
        case "linear" | "mm" | "bmm" | "matmul" | "q8ta_linear" | "q8ta_linear_gemv":
            return 2 * output * (tensors[0] or (1,))[-1]
        case "q8ta_conv2d" | "q8ta_conv2d_pw" | "q8ta_conv2d_dw":
            return int(2 * output * tensors[0][1] // args[13] * math.prod(args[9]))
        case "addmm" | "baddbmm":
            return 2 * output * tensors[1][-1]
        case "convolution" | "conv_with_clamp":
            transposed = any(value is True for value in args)
            return 2 * (math.prod(tensors[0]) if transposed else output) * math.prod(tensors[1][1:])
        case _:
            return 0
