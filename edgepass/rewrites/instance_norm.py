"""A norm of each channel of each sample as one of rows.

    before   x ─ instance_norm ─ y           after   x ─ [N, C, places] ─ layer_norm ─ [N, C, ...] ─ (· w + b) ─ y

torch takes it apart into a batch norm in training, of which ExecuTorch 1.5.1 has no kernel.
"""

import torch
from torch import Tensor
from torch.nn import functional

from edgepass.rewrites import LEFT_ALONE


def instance_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Tensor:
    """Each channel of [N, C, ...] less its mean, over its deviation (Ulyanov et al. 2016, arXiv:1607.08022)."""
    if not use_input_stats:
        return LEFT_ALONE
    rows = x.flatten(2)
    y = functional.layer_norm(rows, [rows.shape[-1]], eps=eps).reshape(x.shape)
    channels = [1, -1, *(1 for _ in x.shape[2:])]
    y = y if weight is None else y * weight.reshape(channels)
    return y if bias is None else y + bias.reshape(channels)


TABLE = {torch.ops.aten.instance_norm.default: instance_norm}
