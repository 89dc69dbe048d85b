"""What the graph that a .pte hands to Vulkan holds, and its reference executor."""

import math
from collections import Counter
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from edgepass.judging.manifest import Weight
from edgepass.runtimes import Session
from edgepass.runtimes.executorch._payload import Payload
from edgepass.runtimes.executorch._vulkan.graph import Graph, Tensor, read

_PREPACK = "et_vk.prepack.default"  # a constant, laid out for the GPU


def prepare() -> None:
    """Import what running a payload needs."""
    import_module("edgepass.runtimes.executorch._vulkan.executor").warm()


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
    from edgepass.runtimes.executorch._vulkan import executor

    return executor.Executor(read(payload, 0), named_data, threads)


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
