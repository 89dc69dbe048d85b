"""What the graph that a .pte hands to Vulkan holds, and its reference executor."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np

from edgepass.judging.manifest import Weight
from edgepass.runtimes import Array, Session, dequantized
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
    layers = _layers(graph)

    def data(tensor: Tensor) -> Array:
        return np.frombuffer(named_data[tensor.key or ""], tensor.dtype)[: math.prod(tensor.shape)].reshape(
            tensor.shape
        )

    held = []
    for number, value in enumerate(graph.values):
        if isinstance(value, Tensor) and value.key and math.prod(value.shape) > 1:
            layer = layers.get(number, _Layer())
            held.append(_weight(value, layer, data, None if layer.scale is None else data(graph.values[layer.scale])))
    return Payload(
        weights=[weight for weight, _ in held],
        values=[value for _, value in held],
        ops=Counter(name for name, _ in graph.calls),
        flops=+flops,
    )


def load(payload: bytes, named_data: Mapping[str, bytes], threads: int) -> Session:
    """The reference executor of the graph. Raises DeviceOnlyError for an operation that it lacks."""
    from edgepass.runtimes.executorch._vulkan import executor

    return executor.Executor(read(payload, 0), named_data, threads)


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """How an operation reads its weight: it may be flattened, and padded to a multiple of four.

    `shape` is that of the model's, `layout` its letters; `scale` the value that holds one for each output, along `axis`
    of what is stored.
    """

    shape: tuple[int, ...] | None = None
    layout: str | None = None
    scale: int | None = None
    axis: int = 0


def _layers(graph: Graph) -> dict[int, _Layer]:
    """By the value of its constant, for each weight."""
    # Value -> the constant that it is, and where each of its dimensions, less leading ones, is in the constant.
    origins: dict[int, tuple[int, tuple[int, ...]]] = {
        number: (number, tuple(range(len(value.shape))))
        for number, value in enumerate(graph.values)
        if isinstance(value, Tensor) and value.key
    }
    found: dict[int, _Layer] = {}

    def read_as(number: int, letters: str) -> None:
        if number in origins and len(origins[number][1]) == len(letters):
            constant, order = origins[number]
            layout = "".join(letters[order.index(i)] for i in range(len(order)))
            found[constant] = replace(found.get(constant, _Layer()), layout=layout)

    for name, numbers in graph.calls:
        args = [graph.values[number] for number in numbers]
        kind = name.split(".")[1]
        first = origins.get(numbers[0]) if numbers else None
        match kind:
            case "prepack" | "clone" if first:
                origins[numbers[-1]] = first
            case "view_copy" | "expand_copy" if first and _less_leading_ones(args[-1].shape) == args[0].shape:
                origins[numbers[-1]] = first
            case "permute_copy" if first and len(args[1]) == len(first[1]):
                origins[numbers[-1]] = first[0], tuple(first[1][i] for i in args[1])
            case "dequantize_per_channel" if first and numbers[1] in origins:
                origins[numbers[-1]] = first
                found[first[0]] = _Layer(shape=args[0].shape, scale=origins[numbers[1]][0], axis=args[3])
            case "q8ta_linear" | "q8ta_linear_gemv":
                shape = args[-1].shape[-1], args[0].shape[-1]
                found[numbers[3]] = _Layer(shape=shape, layout="OI", scale=numbers[5])
            case "q8ta_conv2d" | "q8ta_conv2d_pw" | "q8ta_conv2d_dw":
                shape = args[-1].shape[1], args[0].shape[1] // args[13], *args[9]
                axis = 2 if kind.endswith("dw") else 0
                found[numbers[3]] = _Layer(shape=shape, layout="OIHW", scale=numbers[5], axis=axis)
            case "linear":
                read_as(numbers[1], "OI")
            case "mm" | "bmm" | "matmul":
                read_as(numbers[1], "IO")
            case "addmm":
                read_as(numbers[2], "IO")
            case "convolution" | "conv_with_clamp":
                read_as(numbers[1], ("IO" if args[6] is True else "OI") + "DHW"[5 - len(args[1].shape) :])
            case _:
                pass
    return found


def _less_leading_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    first = next((i for i, n in enumerate(shape) if n > 1), len(shape))
    return shape[first:]


def _weight(
    tensor: Tensor, layer: _Layer, data: Callable[[Tensor], Array], scale: Array | None
) -> tuple[Weight, Array | None]:
    """A constant. As an int8 weight it has scales for each output."""
    stored = data(tensor)
    values: Array | None = stored.astype(np.float32) if stored.dtype.kind == "f" else None
    shape = layer.shape or tensor.shape
    if scale is not None:
        count = stored.shape[layer.axis]
        values = _unpadded(dequantized(stored, scale[:count], axis=layer.axis), layer)
        zeros = 1.0 - float(np.count_nonzero(stored)) / math.prod(shape)  # what pads it is zero
    else:
        zeros = float(np.mean(stored == 0)) if stored.size else 0.0
    return Weight(
        name=tensor.key or "",
        shape=shape,
        dtype=tensor.dtype,
        granularity=None if scale is None else "per-channel",
        zeros=zeros,
        layout=layer.layout,
    ), values


def _unpadded(stored: Array, layer: _Layer) -> Array | None:
    """A weight in the model's own shape, less the rows and columns of zeros that pad it; None where that is unknown."""
    shape = layer.shape
    assert shape is not None
    if stored.shape == shape:
        return stored
    if layer.axis:  # [H, W, O]
        return stored[..., : shape[0]].reshape(*shape[2:], shape[0]).transpose(2, 0, 1)[:, None]
    flat = stored.reshape(len(stored), -1)[: shape[0], : math.prod(shape[1:])]
    if len(shape) == 2:
        return flat
    outputs, inputs, *kernel = shape
    return flat.reshape(outputs, *kernel, inputs).transpose(0, 3, 1, 2)  # [O, H W I], as _convolution reads it


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
