"""What is written at places that a tensor says, as a look-up or a product with ones where the places are.

    before   x, mask, values ─ masked_scatter ─ y    after   mask ─ cumsum ─ which of the values ─ where(mask) ─ y
    before   x, at, rows ─ index_add ─ y             after   at == 0, 1, ... ─ matmul(rows) ─ (+ x) ─ y

LiteRT 2.1 does not load what litert-torch 0.10 makes of a sum of scattered rows, and onnxruntime no masked scatter.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE, Table

aten = torch.ops.aten


def masked_scatter(x: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """The next of `source` wherever the mask is set, as torch.masked_scatter."""
    shown = mask.expand(x.shape) if mask.dim() <= x.dim() else mask
    flat = shown.reshape(-1)
    nth = (torch.cumsum(flat.to(torch.int32), 0) - 1).clamp(0, source.numel() - 1)
    return torch.where(shown, source.reshape(-1)[nth].reshape(shown.shape), x)


def index_add(x: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    """`source` added to the rows of `x` that `index` names, as torch.index_add."""
    if not x.dim() or not x.is_floating_point() or isinstance(x.shape[dim], torch.SymInt):
        return LEFT_ALONE
    rows = source.movedim(dim, 0)
    there = (torch.arange(x.shape[dim])[:, None] == index.reshape(1, -1)).to(x.dtype)
    sums = (there @ rows.reshape(rows.shape[0], -1)).reshape(x.shape[dim], *rows.shape[1:]).movedim(0, dim)
    return x + (sums if alpha == 1 else sums * alpha)


def scatter_add(x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """Each of `source` added where `index` says along `dim`, as torch.scatter_add."""
    if not x.dim() or not x.is_floating_point() or isinstance(x.shape[dim], torch.SymInt):
        return LEFT_ALONE
    used = source[tuple(slice(size) for size in index.shape)].movedim(dim, 0)
    there = torch.arange(x.shape[dim]).reshape(-1, *[1] * x.dim()) == index.movedim(dim, 0)
    sums = torch.where(there, used, torch.zeros((), dtype=x.dtype)).sum(1).movedim(0, dim)
    beyond = [n for size, have in zip(reversed(x.shape), reversed(sums.shape), strict=True) for n in (0, size - have)]
    return x + torch.nn.functional.pad(sums, beyond)


def index_put(x: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False) -> Tensor:
    """`values` added at places along the first dimensions, as torch.index_put(accumulate=True)."""
    if not accumulate or not x.is_floating_point() or any(at is None or at.dtype == torch.bool for at in indices):
        return LEFT_ALONE
    named, rest = x.shape[: len(indices)], x.shape[len(indices) :]
    at = torch.zeros((), dtype=torch.int64)
    for index, size in zip(indices, named, strict=True):
        assert index is not None
        at = at * size + torch.where(index < 0, index + size, index)
    rows = values.expand(*at.shape, *rest).reshape(at.numel(), *rest)
    return index_add(x.reshape(named.numel(), *rest), 0, at.reshape(-1), rows).reshape(x.shape)


TABLE: Table = {
    aten.index_put.default: index_put,
    aten.masked_scatter.default: masked_scatter,
    aten.index_add.default: index_add,
    aten.scatter_add.default: scatter_add,
}
