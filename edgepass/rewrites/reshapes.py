"""Squeeze, select and unbind as slices and reshapes.

    before   x ─ unbind ─ a, b, c            after   x ─ slice ─ reshape ─ a      (and b, and c)

XNNPACK takes slices and reshapes but not the others, so each of them would cut the delegated graph in two.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def squeeze(x: Tensor, dims: int | Sequence[int]) -> Tensor:
    """x without those of the dimensions that have size one."""
    drop = {d % max(x.dim(), 1) for d in ([dims] if isinstance(dims, int) else dims)}
    return x.reshape([n for d, n in enumerate(x.shape) if d not in drop or n != 1])


def select(x: Tensor, dim: int, index: int) -> Tensor:
    """The slice at `index` along `dim`, that dimension dropped."""
    dim %= x.dim()
    index = index % x.shape[dim] if index < 0 else index
    return x.narrow(dim, index, 1).reshape([*x.shape[:dim], *x.shape[dim + 1 :]])


def unbind(x: Tensor, dim: int = 0) -> list[Tensor]:
    """All slices along `dim`, that dimension dropped."""
    return [select(x, dim, index) for index in range(x.shape[dim])]


TABLE = {
    torch.ops.aten.squeeze.dim: squeeze,
    torch.ops.aten.squeeze.dims: squeeze,
    torch.ops.aten.select.int: select,
    torch.ops.aten.unbind.int: unbind,
}
