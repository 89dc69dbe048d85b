"""The bucket that a number falls into, by counting the bounds below it.

before   x, bounds [n] ─ bucketize ─ y           after   x[..., None] > bounds ─ sum ─ y     searchsorted too
"""

import torch
from torch import Tensor

from edgepass.rewrites import Table

aten = torch.ops.aten


def bucketize(x: Tensor, bounds: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """How many of `bounds` are below each, or with `right` not above it, as torch.bucketize."""
    beside = x.unsqueeze(-1)
    below = beside >= bounds if right else beside > bounds
    return below.to(torch.int32).sum(-1).to(torch.int32 if out_int32 else torch.int64)


def searchsorted(
    rows: Tensor,
    x: Tensor,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """How many of [..., n] are below each of [..., m], as torch.searchsorted."""
    if sorter is not None:
        rows = rows.gather(-1, sorter)
    bounds = rows if rows.dim() == 1 else rows.unsqueeze(-2)
    return bucketize(x, bounds, out_int32=out_int32, right=right or side == "right")


TABLE: Table = {aten.bucketize.Tensor: bucketize, aten.searchsorted.Tensor: searchsorted}
