"""Layer and RMS norm with their means taken by a matrix product.

    before   x ─ layer_norm ─ y
    after    x ─ matmul(1/D) ─ subtract ─ square ─ matmul(1/D) ─ rsqrt ─ multiply ─ scale, shift ─ y

XNNPACK has no layer norm and averages only the two innermost of four dimensions, so the stock form leaves the
delegate four times a norm; a product with a row of 1/D stays inside, and is not slower.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from edgepass.rewrites import EPS, constant


def mean_last(x: Tensor) -> Tensor:
    """Mean over the last dimension, kept: [..., D] -> [..., 1]."""
    width = x.shape[-1]
    return F.linear(x, torch.full((1, width), 1.0 / width, dtype=x.dtype))


def layer_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias (Ba, Kiros, Hinton 2016, arXiv:1607.06450, eq. 4)."""
    if len(normalized_shape) > 1:
        flat = x.flatten(-len(normalized_shape))
        last = [flat.shape[-1]]
        y = layer_norm(flat, last, _flat(weight), _flat(bias), eps)
        return y.reshape(x.shape)
    centred = x - mean_last(x)
    y = centred * torch.rsqrt(mean_last(centred * centred) + _eps(eps, x))
    if weight is not None:
        y = y * weight
    return y if bias is None else y + bias


def rms_norm(
    x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """x / sqrt(mean(x²) + eps) * weight (Zhang, Sennrich 2019, arXiv:1910.07467, eq. 4)."""
    if len(normalized_shape) > 1:
        flat = x.flatten(-len(normalized_shape))
        return rms_norm(flat, [flat.shape[-1]], _flat(weight), eps).reshape(x.shape)
    eps = EPS if eps is None else eps
    y = x * torch.rsqrt(mean_last(x * x) + _eps(eps, x))
    return y if weight is None else y * weight


def _eps(eps: float, x: Tensor) -> Tensor:
    """[1], and never 0 where it is not: BERT's 1e-12 is 0 in float16, and a row of zeros was no number."""
    number = torch.finfo(x.dtype)
    return constant(max(eps, number.smallest_normal * number.eps) if eps > 0 else eps, x)


def _flat(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.reshape(-1)


TABLE = {torch.ops.aten.layer_norm.default: layer_norm, torch.ops.aten.rms_norm.default: rms_norm}
