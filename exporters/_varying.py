"""Dimensions that vary, the batch among them, and the inputs that have them."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from edgepass.errors import CaptureError
from edgepass.judging.manifest import Varying

Ranges = tuple[tuple[Varying, tuple[int, ...]], ...]
"""Each with the numbers of the inputs that have it."""


def varying(model: nn.Module, args: tuple[Tensor, ...], max_batch: int | None, dynamic: Sequence[Varying]) -> Ranges:
    """Which inputs have each dimension that varies. Raises CaptureError where none has, or not in such a size."""
    found: list[tuple[Varying, tuple[int, ...]]] = []
    if max_batch is not None:
        found.append((Varying(axis=0, high=max_batch), tuple(range(len(args)))))
    names = list(inspect.signature(model.forward).parameters)
    for which in dynamic:
        having = [number for number, arg in enumerate(args) if arg.dim() > which.axis]
        if which.input:
            having = [number for number in having if names[number : number + 1] == [which.input]]
        if not having:
            known = ", ".join(f"{name}{list(arg.shape)}" for name, arg in zip(names, args, strict=False))
            raise CaptureError(f"--dynamic {which} names a dimension that no input has; the inputs are {known}")
        size = args[having[0]].shape[which.axis]
        if not which.low <= size <= which.high:
            raise CaptureError(f"--dynamic {which} leaves out {size}, the size in the example arguments; take it in")
        found.append((which, tuple(number for number in having if args[number].shape[which.axis] == size)))
    return tuple(found)


def wide(arg: Tensor, axis: int) -> Tensor:
    return torch.cat([arg, arg], axis) if arg.shape[axis] == 1 else arg


def dynamic_shapes(args: tuple[Tensor, ...], ranges: Ranges) -> tuple[Any, ...] | None:
    if not ranges:
        return None
    shapes: list[dict[int, Any]] = [{} for _ in args]
    for number, (which, having) in enumerate(ranges):
        size = Dim(f"length_{number}" if which.axis else "batch", min=which.low, max=which.high)
        for place in having:
            shapes[place][which.axis] = size
    return tuple(shapes)
