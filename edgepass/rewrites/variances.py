"""A variance and a mean in one operation, as two; and a variance that says by how much it is corrected.

    before   x ─ var_mean ─ v, m             after   x ─ var ─ v,    x ─ mean ─ m
    before   x ─ var() ─ v                   after   x ─ var(correction=1) ─ v          std likewise

ExecuTorch 1.5.1 and coremltools 9.0 have no operation that gives both, and coremltools takes a correction that is not
named for none, where torch means one: a deviation of 8 numbers comes out 6.5 % too small.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE, Table

aten = torch.ops.aten


def var_mean(
    x: Tensor, dim: Sequence[int] | None = None, *, correction: float | None = None, keepdim: bool = False
) -> tuple[Tensor, Tensor]:
    """Variance and mean over `dim`, or all, as torch.var_mean."""
    dims = list(range(x.dim())) if dim is None else list(dim)
    correction = 1 if correction is None else correction
    return torch.var(x, dims, correction=correction, keepdim=keepdim), torch.mean(x, dims, keepdim=keepdim)


def std_mean(
    x: Tensor, dim: Sequence[int] | None = None, *, correction: float | None = None, keepdim: bool = False
) -> tuple[Tensor, Tensor]:
    """Standard deviation and mean over `dim`, or all, as torch.std_mean."""
    variance, mean = var_mean(x, dim, correction=correction, keepdim=keepdim)
    return variance.sqrt(), mean


def _one(operation: Any) -> Any:
    """The operation with the correction that torch means where none is named."""

    def named(x: Tensor, dim: Any = None, *, correction: float | None = None, keepdim: bool = False) -> Any:
        dims = list(range(x.dim())) if dim is None else dim
        return LEFT_ALONE if correction is not None else operation(x, dims, correction=1, keepdim=keepdim)

    return named


def _unbiased(formula: Any) -> tuple[Any, Any]:
    """The formula as the overloads call it that say `unbiased`: of all, and over `dim`."""

    def of_all(x: Tensor, unbiased: bool = True) -> Any:
        return formula(x, correction=int(unbiased))

    def over(x: Tensor, dim: Sequence[int] | None, unbiased: bool = True, keepdim: bool = False) -> Any:
        return formula(x, dim, correction=int(unbiased), keepdim=keepdim)

    return of_all, over


TABLE: Table = {
    aten.var.correction: _one(torch.var),
    aten.std.correction: _one(torch.std),
    aten.var_mean.correction: var_mean,
    aten.std_mean.correction: std_mean,
    **dict(zip((aten.var_mean.default, aten.var_mean.dim), _unbiased(var_mean), strict=True)),
    **dict(zip((aten.std_mean.default, aten.std_mean.dim), _unbiased(std_mean), strict=True)),
}
