"""Core ML operations between floats and integers: quantize, dequantize, and the constants stored compressed."""

import inspect
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgepass.runtimes.coreml._node import Node, Run, handles

Array = NDArray[Any]
_RANGE = {"int8": (-128.0, 127.0), "uint8": (0.0, 255.0)}


@handles("quantize")
def _quantize(node: Node) -> Run:
    scale, zero = _along_axis(node, "scale", 1.0), _along_axis(node, "zero_point", 0.0)
    low, high = _RANGE[node.get("output_dtype")]
    return lambda input: torch.div(input.float(), scale).round_().add_(zero).clamp_(low, high)


@handles("dequantize")
def _dequantize(node: Node) -> Run:
    scale, zero = _along_axis(node, "scale", 1.0), _along_axis(node, "zero_point", 0.0)
    if not zero.any():
        return lambda input: input.float().mul_(scale)  # in place: the floats of an integer are a fresh tensor
    return lambda input: input.float().sub_(zero).mul_(scale)


def _along_axis(node: Node, name: str, default: float) -> Tensor:
    value = node.tensor(name)
    if value is None:
        return torch.tensor(default)
    if value.dim() == 0:
        return value.float()
    rank = node.ranks["input"]
    axis = int(node.get("axis")) % rank
    return value.float().reshape([-1 if d == axis else 1 for d in range(rank)])


def decompress(var: Any) -> Array | None:
    """The dense value of a constant, through any depth of constexpr operations; None when it is not a constant.

    Each step is coremltools' own decompression; coremltools itself follows only some of the nestings.
    """
    if var.op is None:
        return None
    if not var.op.op_type.startswith("constexpr_"):
        value = var.val if var.op.op_type == "const" else None
        return None if value is None else np.asarray(value)
    op = var.op
    if op.op_type == "constexpr_cast":
        source = decompress(op.source_val)
        return None if source is None else source.astype(np.float32)
    wanted = inspect.signature(op.decompress).parameters
    inputs = {name: decompress(op.inputs[name]) if op.inputs.get(name) is not None else None for name in wanted}
    arguments = {name: v.item() if v is not None and name.endswith("axis") else v for name, v in inputs.items()}
    result = op.decompress(**arguments)
    return np.asarray(result[op.outputs.index(var)] if isinstance(result, tuple) else result)
