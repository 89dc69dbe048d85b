"""A tensor of one value in the shape of another, but of another type, without that other.

    before   mask ─ zeros_like(dtype float32) ─ y            after   full(shape, 0, float32) ─ y

coremltools 9.0 leaves out the type: the zeros of a bool mask stay bool, and a mask made on them masks the wrong way.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from edgepass.exporters._canonical._constants import Constants

ATEN = torch.ops.aten


def formula(node: Node, constants: Constants) -> Callable[..., Tensor] | None:
    """The filled tensor, where the operation names a type."""
    return FILLED.get(node.target) if node.kwargs.get("dtype") is not None else None


def _filled(like: Callable[..., Tensor], value: float) -> Callable[..., Tensor]:
    def formula(x: Tensor, *, dtype: torch.dtype, **where: Any) -> Tensor:
        if all(isinstance(n, int) for n in x.shape):
            return torch.full(x.shape, value, dtype=dtype)
        return like(x.to(dtype))  # of the type first: integers hold no half

    return formula


def _full(x: Tensor, value: float, *, dtype: torch.dtype, **where: Any) -> Tensor:
    return _filled(lambda other: torch.full_like(other, value), value)(x, dtype=dtype)


FILLED: dict[Any, Callable[..., Tensor]] = {
    ATEN.zeros_like.default: _filled(torch.zeros_like, 0),
    ATEN.ones_like.default: _filled(torch.ones_like, 1),
    ATEN.full_like.default: _full,
}
