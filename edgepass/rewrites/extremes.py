"""The largest and smallest of all numbers, with every dimension named.

    before   x ─ amax, aminmax ─ y           after   x ─ amax([0, 1, ...]) ─ y

onnxscript 0.6 takes none without.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE, Table

aten = torch.ops.aten


def _every(operation: Any) -> Any:
    def formula(x: Tensor, dim: Sequence[int] = (), keepdim: bool = False) -> Any:
        return LEFT_ALONE if dim or not x.dim() else operation(x, list(range(x.dim())), keepdim)

    return formula


def aminmax(x: Tensor, *, dim: int | None = None, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """Both, as torch.aminmax."""
    dims = list(range(x.dim())) if dim is None else [dim]
    return x.amin(dims, keepdim), x.amax(dims, keepdim)


TABLE: Table = {
    aten.amax.default: _every(aten.amax.default),
    aten.amin.default: _every(aten.amin.default),
    aten.aminmax.default: aminmax,
}
