"""What is found by sorting, by the largest or smallest k of a row.

    before   x ─ sort ─ y                    after   x ─ topk(all) ─ y
    before   x ─ median, kthvalue ─ y        after   x ─ topk(the smallest up to it) ─ the last ─ y

ExecuTorch and LiteRT have kernels of topk and none of a sort; coremltools 9.0 knows no median. Of equal numbers the
indices may be others, as torch leaves open too; in a row with a NaN it counts as the largest number.
"""

from typing import Any

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE, Table

Pair = tuple[Tensor, Tensor]
aten = torch.ops.aten


def sort(x: Tensor, dim: int = -1, descending: bool = False) -> Pair:
    """Values and indices of `x` in order, as torch.sort."""
    if not x.dim() or isinstance(x.shape[dim], torch.SymInt):
        return LEFT_ALONE
    values, indices = torch.topk(x, x.shape[dim], dim, largest=descending)
    return values, indices


def stable_sort(x: Tensor, *, stable: bool | None, dim: int = -1, descending: bool = False) -> Pair:
    """`sort`, and equal numbers keep their order where that is asked: each goes where those before it leave room."""
    if not stable or not x.dim() or isinstance(x.shape[dim], torch.SymInt):
        return sort(x, dim, descending)
    row = x.transpose(dim, -1)
    this, other = row.unsqueeze(-1), row.unsqueeze(-2)
    length = row.shape[-1]
    is_earlier = torch.arange(length) < torch.arange(length)[:, None]
    before = (other > this if descending else other < this) | ((other == this) & is_earlier)
    places = before.to(torch.float32).sum(-1)
    indices = torch.topk(places, length, -1, largest=False)[1]
    return row.gather(-1, indices).transpose(dim, -1), indices.transpose(dim, -1)


def kthvalue(x: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Pair:
    """The k-th smallest along `dim` and where it is, as torch.kthvalue."""
    if not x.dim() or isinstance(x.shape[dim], torch.SymInt):
        return LEFT_ALONE
    values, indices = (y.narrow(dim, k - 1, 1) for y in torch.topk(x, k, dim, largest=False))
    return (values, indices) if keepdim else (values.squeeze(dim), indices.squeeze(dim))


def median(x: Tensor, dim: int, keepdim: bool = False) -> Pair:
    """The lower of the middle numbers along `dim` and where it is, as torch.median."""
    return kthvalue(x, (x.shape[dim] + 1) // 2 if x.dim() else 1, dim, keepdim)


def median_of_all(x: Tensor) -> Tensor:
    """The lower of the middle numbers of all, as torch.median."""
    return median(x.flatten(), 0)[0]


def argsort(x: Tensor, *, stable: bool, dim: int = -1, descending: bool = False) -> Tensor:
    """Where the numbers in order come from, as torch.argsort."""
    return stable_sort(x, stable=stable, dim=dim, descending=descending)[1]


def _in_parts(*operations: Any) -> Table:
    """torch's own formulas of operations that sort, so that what they sort by is rewritten in turn."""
    formulas = torch.export.default_decompositions().materialize()
    return {operation: formulas[operation] for operation in operations}


TABLE: Table = {
    aten.sort.default: sort,
    aten.sort.stable: stable_sort,
    aten.kthvalue.default: kthvalue,
    aten.median.default: median_of_all,
    aten.median.dim: median,
    aten.argsort.stable: argsort,
    **_in_parts(aten.quantile.default, aten.quantile.scalar, aten.nanquantile.default, aten.nanquantile.scalar),
    **_in_parts(aten.argsort.default, aten.msort.default),
}
