"""RMS norm in elementary operations, for targets whose converter does not know it.

    before   x ─ rms_norm ─ y
    after    x ─ square ─ mean ─ rsqrt ─ multiply ─ scale ─ y

coremltools 9.0 expects a fourth input that torch 2.13 no longer passes ("rms_norm got 3 input(s), expected [4]").
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from edgepass.rewrites import EPS


def rms_norm(
    x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """x / sqrt(mean(x²) + eps) * weight over the last dimensions (Zhang, Sennrich 2019, arXiv:1910.07467, eq. 4)."""
    eps = EPS if eps is None else eps
    dims = tuple(range(-len(normalized_shape), 0))
    y = x * torch.rsqrt((x * x).mean(dims, keepdim=True) + eps)
    return y if weight is None else y * weight


TABLE = {torch.ops.aten.rms_norm.default: rms_norm}
