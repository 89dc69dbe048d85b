"""Distances from differences.

    before   x, y ─ cdist ─ d                after   x[:, None] − y[None] ─ square ─ sum ─ sqrt ─ d
    before   x, y ─ dist ─ d                 after   x − y ─ vector_norm ─ d

coremltools 9.0 does not know them, and ExecuTorch 1.5.1 not the second.
"""

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE


def cdist(x: Tensor, y: Tensor, p: float = 2.0, compute_mode: int | None = None) -> Tensor:
    """Distances of each row of [..., N, C] to each of [..., M, C], [..., N, M], as torch.cdist of p = 2 or 1."""
    differences = x.unsqueeze(-2) - y.unsqueeze(-3)
    if p == 2:
        return differences.square().sum(-1).sqrt()
    return differences.abs().sum(-1) if p == 1 else LEFT_ALONE


def dist(x: Tensor, y: Tensor, p: float = 2.0) -> Tensor:
    """The distance of `x` and `y` as a whole, as torch.dist."""
    whole: Tensor = torch.linalg.vector_norm(x - y, p)
    return whole


TABLE = {torch.ops.aten.cdist.default: cdist, torch.ops.aten.dist.default: dist}
