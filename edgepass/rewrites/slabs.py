"""A convolution over volumes as one over pictures, with a channel for each plane that the kernel reaches.

    before   x [N, C, D, H, W] ─ conv3d(K deep) ─ y
    after    x ─ K slices along D, a step apart ─ [N·D', C·K, H, W] ─ conv2d ─ [N, out, D', H', W'] ─ y

ExecuTorch 1.5.1 has no kernel of it, and litert-torch 0.10 crashes on some.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from edgepass.rewrites import LEFT_ALONE, Table, each

DIMS = 3


def conv3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> Any:
    """As torch.nn.functional.conv3d of [N, C, D, H, W] or [C, D, H, W]."""
    if any(isinstance(n, torch.SymInt) for n in x.shape):
        return LEFT_ALONE
    (jump, *strides), (edge, *edges), (step, *steps) = (each(n, DIMS) for n in (stride, padding, dilation))
    volumes = x if x.dim() == DIMS + 2 else x.unsqueeze(0)
    count, channels, depth, *plane = volumes.shape
    outputs, inputs, deep, *kernel = weight.shape
    planes = functional.pad(volumes, (0, 0, 0, 0, edge, edge)).transpose(1, 2).flatten(3)  # [N, D, C, HW]
    found = (depth + 2 * edge - step * (deep - 1) - 1) // jump + 1
    every = torch.ops.aten.slice.Tensor
    slices = [every(planes, 1, k * step, k * step + (found - 1) * jump + 1, jump) for k in range(deep)]
    pictures = torch.stack(slices, 3).reshape(count * found, channels * deep, *plane)
    kernels = weight.reshape(outputs, inputs * deep, *kernel)
    y = functional.conv2d(pictures, kernels, bias, strides, edges, steps, groups)
    y = y.unflatten(0, (count, found)).transpose(1, 2)
    return y if x.dim() == DIMS + 2 else y.squeeze(0)


TABLE: Table = {torch.ops.aten.conv3d.default: conv3d}
