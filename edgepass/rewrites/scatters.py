"""What is written at places that a tensor says, as a look-up or a product with ones where the places are.

    before   x, mask, values ─ masked_scatter ─ y    after   mask ─ cumsum ─ which of the values ─ where(mask) ─ y
    before   x, at, rows ─ index_add ─ y             after   at == 0, 1, ... ─ matmul(rows) ─ (+ x) ─ y
    before   x, at, rows ─ scatter_reduce ─ y        after   at == 0, 1, ... ─ where(rows) ─ sum, amax, ... ─ y
    before   y, at ─ the way back of a max pool ─ x  after   zeros, at, y ─ scatter_add ─ x

LiteRT 2.1 does not load what litert-torch 0.10 makes of a sum of scattered rows, and onnxruntime no masked scatter.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE, Table, products

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


NEUTRAL = {"sum": 0.0, "mean": 0.0, "prod": 1.0, "amax": -math.inf, "amin": math.inf}


def scatter_reduce(
    x: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """The sum, mean, product or extreme of `x` and what `index` sends there of `source`, as torch.scatter_reduce."""
    if not x.dim() or not x.is_floating_point() or any(isinstance(n, torch.SymInt) for n in (*x.shape, *index.shape)):
        return LEFT_ALONE
    dim %= x.dim()
    used = source[tuple(slice(size) for size in index.shape)].movedim(dim, 0)
    there = torch.arange(x.shape[dim]).reshape(-1, *[1] * x.dim()) == index.movedim(dim, 0)
    beyond = [n for d in reversed(range(x.dim())) for n in (0, 0 if d == dim else x.shape[d] - index.shape[d])]
    neutral = NEUTRAL[reduce]
    parts = torch.where(there, used, torch.full((), neutral, dtype=x.dtype))
    found = {"amax": _largest, "amin": _smallest, "prod": _product}.get(reduce, _sum)(parts).movedim(0, dim)
    counts = torch.nn.functional.pad(there.to(x.dtype).sum(1).movedim(0, dim), beyond)
    found = torch.nn.functional.pad(found, beyond, value=neutral)
    start = x if include_self else torch.where(counts > 0, torch.full((), neutral, dtype=x.dtype), x)
    match reduce:
        case "amax":
            return torch.maximum(start, found)
        case "amin":
            return torch.minimum(start, found)
        case "prod":
            return start * found
        case "mean":
            return (start + found) / (counts + float(include_self)).clamp(min=1)
    return start + found


def _sum(parts: Tensor) -> Tensor:
    return parts.sum(1)


def _largest(parts: Tensor) -> Tensor:
    return parts.amax(1)


def _smallest(parts: Tensor) -> Tensor:
    return parts.amin(1)


def _product(parts: Tensor) -> Tensor:
    return products.product(parts, 1)


def index_reduce(
    x: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """The product, mean or extreme of the rows that `index` sends to each of `x`, as torch.index_reduce."""
    if not x.dim():
        return LEFT_ALONE
    shape = [len(index) if d == dim % x.dim() else 1 for d in range(x.dim())]
    every = index.reshape(shape).expand(source.shape)
    return scatter_reduce(x, dim, every, source, reduce, include_self=include_self)


def scatter_by(x: Tensor, dim: int, index: Tensor, source: Tensor, *, reduce: str) -> Tensor:
    """As torch.scatter(reduce="add" or "multiply")."""
    return scatter_reduce(x, dim, index, source, {"add": "sum", "multiply": "prod"}[reduce])


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


def unpooled(y: Tensor, x: Tensor, *settings: Any) -> Tensor:
    """Each of `y` added where the largest of its window was in `x`, as torch's gradient of max_pool2d has it."""
    *_, at = settings
    none = torch.zeros(*x.shape[:-2], x.shape[-2] * x.shape[-1], dtype=y.dtype)
    found: Tensor = aten.scatter_add(none, -1, at.flatten(-2), y.flatten(-2))
    return found.reshape(x.shape)


TABLE: Table = {
    aten.max_pool2d_with_indices_backward.default: unpooled,
    aten.index_put.default: index_put,
    aten.masked_scatter.default: masked_scatter,
    aten.index_add.default: index_add,
    aten.scatter_add.default: scatter_add,
    aten.scatter_reduce.two: scatter_reduce,
    aten.index_reduce.default: index_reduce,
    aten.scatter.reduce: scatter_by,
}
