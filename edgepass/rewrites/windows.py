"""Sliding windows as slices, stacked.

    before   x ─ unfold(d, size, step) ─ y
    after    x ─ x[k :: step] for each of `size` places k in a window ─ stack ─ y     or, where windows are fewer,
             x ─ x[w · step : … + size] for each window w ─ stack ─ y

Converters have no strided views of memory, which is what torch makes of it.
"""

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE


def unfold(x: Tensor, dim: int, size: int, step: int) -> Tensor:
    """Windows of `size` along `dim`, `step` apart: [..., windows, ..., size], as Tensor.unfold."""
    if not x.dim() or isinstance(x.shape[dim], torch.SymInt):
        return LEFT_ALONE
    dim %= x.dim()
    windows = (x.shape[dim] - size) // step + 1
    if windows < size:
        return torch.stack([x.narrow(dim, w * step, size) for w in range(windows)], dim).movedim(dim + 1, -1)
    every = torch.ops.aten.slice.Tensor
    return torch.stack([every(x, dim, k, k + (windows - 1) * step + 1, step) for k in range(size)], -1)


TABLE = {torch.ops.aten.unfold.default: unfold}
