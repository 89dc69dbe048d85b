"""Running products, maxima and sums of exponentials, in steps that double.

    before   x [n] ─ cumprod ─ y             after   x ─ (· itself shifted by 1) ─ (· itself shifted by 2) ─ ... ─ y

ExecuTorch 1.5.1 has no kernels of them, litert-torch 0.10 no lowerings, and coremltools 9.0 makes infinity of a
logcumsumexp of large numbers.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from edgepass.rewrites import LEFT_ALONE, Table

aten = torch.ops.aten
Parts = tuple[Tensor, ...]


def _scan(parts: Parts, starts: tuple[float, ...], join: Callable[[Parts, Parts], Parts]) -> Parts:
    """`join` of all numbers up to each along the last dimension; of `starts` it makes no difference."""
    length, step = parts[0].shape[-1], 1
    while step < length:
        earlier = tuple(
            functional.pad(part[..., : length - step], (step, 0), value=start)
            for part, start in zip(parts, starts, strict=True)
        )
        parts = join(earlier, parts)
        step *= 2
    return parts


def _fixed(x: Tensor, dim: int) -> bool:
    return x.dim() > 0 and x.is_floating_point() and not isinstance(x.shape[dim], torch.SymInt)


def cumprod(x: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """The product of all up to each along `dim`, as torch.cumprod."""
    if not _fixed(x, dim) or dtype not in (None, x.dtype):
        return LEFT_ALONE
    (y,) = _scan((x.transpose(dim, -1),), (1.0,), lambda earlier, later: (earlier[0] * later[0],))
    return y.transpose(dim, -1)


def logcumsumexp(x: Tensor, dim: int) -> Tensor:
    """log of the sum of exp of all up to each along `dim`, as torch.logcumsumexp."""
    if not _fixed(x, dim):
        return LEFT_ALONE
    lowest = torch.finfo(x.dtype).min

    def join(earlier: Parts, later: Parts) -> Parts:
        high, low = torch.maximum(earlier[0], later[0]), torch.minimum(earlier[0], later[0])
        return (high + torch.log1p(torch.exp(low - high)),)

    (y,) = _scan((x.transpose(dim, -1),), (lowest,), join)
    return y.transpose(dim, -1)


def _extreme(
    is_further: Callable[[Tensor, Tensor], Tensor], start: float
) -> Callable[[Tensor, int], tuple[Tensor, Tensor]]:
    def formula(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        if not _fixed(x, dim):
            return LEFT_ALONE
        row = x.transpose(dim, -1)
        places = torch.arange(row.shape[-1], dtype=x.dtype).expand(row.shape)

        def join(earlier: Parts, later: Parts) -> Parts:
            later_is_it = is_further(later[0], earlier[0])
            return tuple(torch.where(later_is_it, b, a) for a, b in zip(earlier, later, strict=True))

        values, at = _scan((row, places), (start, 0.0), join)
        return values.transpose(dim, -1), at.to(torch.int64).transpose(dim, -1)

    return formula


cummax = _extreme(torch.ge, -math.inf)
cummin = _extreme(torch.le, math.inf)

TABLE: Table = {
    aten.cumprod.default: cumprod,
    aten.logcumsumexp.default: logcumsumexp,
    aten.cummax.default: cummax,
    aten.cummin.default: cummin,
}
