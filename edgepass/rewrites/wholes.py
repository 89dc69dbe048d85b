"""What is found over all dimensions, with each of them named.

    before   x ─ sum() ─ y                   after   x ─ sum([0, 1, ...]) ─ y            mean, max and min likewise
    before   x ─ argmax() ─ y                after   x ─ [n] ─ argmax(0) ─ y

coremltools 9.0 breaks off with "KeyError: 'axes'" where such a sum follows a transpose, and of the largest of all it
gives the place along one dimension.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE, Table

aten = torch.ops.aten


def _named(operation: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def formula(x: Tensor, **how: torch.dtype) -> Tensor:
        return operation(x, list(range(x.dim())), **how) if x.dim() else LEFT_ALONE

    return formula


def _flat(operation: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def formula(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
        if dim is not None or not x.dim():
            return LEFT_ALONE
        y = operation(x.flatten(), 0)
        return y.reshape([1] * x.dim()) if keepdim else y

    return formula


TABLE: Table = {
    aten.sum.default: _named(torch.sum),
    aten.mean.default: _named(torch.mean),
    aten.max.default: _named(torch.amax),
    aten.min.default: _named(torch.amin),
    aten.argmax.default: _flat(torch.argmax),
    aten.argmin.default: _flat(torch.argmin),
}
