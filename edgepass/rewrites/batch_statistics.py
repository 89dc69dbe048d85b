"""Norms that also give what they divided by, in plain arithmetic.

    before   x ─ batch_norm(of this batch) ─ y       after   x ─ mean, var of channels ─ (x - mean) / sqrt(var) ─ y
    before   x ─ native_layer_norm ─ y, mean, rstd   after   x ─ mean, var ─ ... ─ y, mean, rstd

A batch norm that keeps no running statistics is of its batch in evaluation too. coremltools 9.0 does not know it, and
of the others gives the first output alone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from edgepass.rewrites import Table

aten = torch.ops.aten
Norm = tuple[Tensor, Tensor, Tensor]


def _normed(x: Tensor, dims: list[int], eps: float) -> Norm:
    mean = x.mean(dims, keepdim=True)
    rest = x - mean
    scale = (rest.square().mean(dims, keepdim=True) + eps).rsqrt()
    return rest * scale, mean, scale


def _affine(y: Tensor, weight: Tensor | None, bias: Tensor | None, shape: Sequence[int]) -> Tensor:
    y = y if weight is None else y * weight.reshape(shape)
    return y if bias is None else y + bias.reshape(shape)


def layer_norm(x: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float) -> Norm:
    """As torch.native_layer_norm."""
    y, mean, scale = _normed(x, list(range(-len(shape), 0)), eps)
    return _affine(y, weight, bias, shape), mean, scale


def group_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, N: int, C: int, HxW: int, group: int, eps: float
) -> Norm:
    """As torch.native_group_norm."""
    y, mean, scale = _normed(x.reshape(N, group, -1), [2], eps)
    channels = [1, C, *[1] * (x.dim() - 2)]
    return _affine(y.reshape(x.shape), weight, bias, channels), mean.squeeze(2), scale.squeeze(2)


def of_the_batch(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, training: bool, momentum: float, eps: float
) -> Norm:
    """As torch._native_batch_norm_legit without running statistics."""
    y, mean, scale = _normed(x, [d for d in range(x.dim()) if d != 1], eps)
    return _affine(y, weight, bias, [1, -1, *[1] * (x.dim() - 2)]), mean.flatten(), scale.flatten()


TABLE: Table = {
    aten.native_layer_norm.default: layer_norm,
    aten.native_group_norm.default: group_norm,
    aten._native_batch_norm_legit.no_stats: of_the_batch,
}
