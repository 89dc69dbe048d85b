"""Distances between rows from their differences.

    before   x, y ─ cdist ─ d                after   x[:, None] − y[None] ─ square ─ sum ─ sqrt ─ d

coremltools 9.0 does not know them.
"""

import torch
from torch import Tensor


def cdist(x: Tensor, y: Tensor, p: float = 2.0, compute_mode: int | None = None) -> Tensor:
    """Distances of each row of [..., N, C] to each of [..., M, C], [..., N, M], as torch.cdist of p = 2 or 1."""
    differences = x.unsqueeze(-2) - y.unsqueeze(-3)
    if p == 2:
        return differences.square().sum(-1).sqrt()
    return differences.abs().sum(-1) if p == 1 else NotImplemented


TABLE = {torch.ops.aten.cdist.default: cdist}
