"""Products of all numbers along a dimension, by halves.

    before   x [n] ─ prod ─ y                after   x ─ (first half · second half) ─ ... ─ y

coremltools 9.0 does not know them.
"""

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE, Table

aten = torch.ops.aten


def product(x: Tensor, dim: int, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Tensor:
    """The product along `dim`, as torch.prod."""
    if not x.dim() or isinstance(x.shape[dim], torch.SymInt) or not x.shape[dim]:
        return LEFT_ALONE
    y = x.to(dtype or (x.dtype if x.is_floating_point() else torch.int64))
    while (length := y.shape[dim]) > 1:
        half = length // 2
        pairs = y.narrow(dim, 0, half) * y.narrow(dim, half, half)
        y = torch.cat([pairs, y.narrow(dim, 2 * half, 1)], dim) if length % 2 else pairs
    return y if keepdim else y.squeeze(dim)


def product_of_all(x: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    """The product of all, as torch.prod."""
    return product(x.flatten(), 0, dtype=dtype)


TABLE: Table = {aten.prod.default: product_of_all, aten.prod.dim_int: product}
