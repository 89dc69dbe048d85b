"""Distances from differences.

    before   x, y ─ cdist ─ d                after   x[:, None] − y[None] ─ square ─ sum ─ sqrt ─ d
    before   x ─ pdist ─ d                   after   cdist(row, rows behind) for each ─ cat ─ d
    before   x, y ─ dist ─ d                 after   x − y ─ vector_norm ─ d

coremltools 9.0 does not know them, and ExecuTorch 1.5.1 not the second.
"""

import math

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE, Table


def cdist(x: Tensor, y: Tensor, p: float = 2.0, compute_mode: int | None = None) -> Tensor:
    """Distances of each row of [..., N, C] to each of [..., M, C], [..., N, M], as torch.cdist."""
    differences = (x.unsqueeze(-2) - y.unsqueeze(-3)).abs()
    if p == 2:
        return differences.square().sum(-1).sqrt()
    if p == 1:
        return differences.sum(-1)
    if p == math.inf:
        return differences.amax(-1)
    if p == 0:
        return (differences != 0).to(x.dtype).sum(-1)
    return differences.pow(p).sum(-1).pow(1 / p)


def pdist(x: Tensor, p: float = 2.0) -> Tensor:
    """Distances of each of [N, C] to each behind it, [N (N - 1) / 2], as torch.pdist."""
    if isinstance(x.shape[0], torch.SymInt) or len(x) < 2:
        return LEFT_ALONE
    return torch.cat([cdist(x[n : n + 1], x[n + 1 :], p).flatten() for n in range(len(x) - 1)])


def dist(x: Tensor, y: Tensor, p: float = 2.0) -> Tensor:
    """The distance of `x` and `y` as a whole, as torch.dist."""
    whole: Tensor = torch.linalg.vector_norm(x - y, p)
    return whole


aten = torch.ops.aten
TABLE: Table = {
    aten.cdist.default: cdist,
    aten._cdist_forward.default: cdist,
    aten.pdist.default: pdist,
    aten._pdist_forward.default: pdist,
    aten.dist.default: dist,
}
