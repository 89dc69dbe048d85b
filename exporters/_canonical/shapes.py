"""A tensor in the shape of another as one in that shape.

    before   x ─ reshape_as ─ y              after   x ─ reshape(2, 3) ─ y
             z ──┘                                   z

So that what gives no more than its shape is not taken for read: what follows a layer is folded into it where nothing
else reads it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from edgepass.exporters._canonical._constants import Constants

ATEN = torch.ops.aten


def reshape(x: Tensor, other: Tensor) -> Tensor:
    """x in the shape of `other`."""
    return x.reshape(other.shape)


def expand(x: Tensor, other: Tensor) -> Tensor:
    """x repeated to the shape of `other`."""
    return x.expand(other.shape)


TABLE: dict[Any, Callable[[Tensor, Tensor], Tensor]] = {
    ATEN.reshape_as.default: reshape,
    ATEN.view_as.default: reshape,
    ATEN.expand_as.default: expand,
}


def formula(node: Node, constants: Constants) -> Callable[[Tensor, Tensor], Tensor] | None:
    """The same with the shape in numbers."""
    return TABLE.get(node.target)
