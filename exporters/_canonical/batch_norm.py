"""A batch norm behind a layer that is read elsewhere too, or of other channels, as a product and a sum.

    before   x ─ conv ─┬─ batch_norm ─ y         after   x ─ conv ─┬─ (· s) ─ (+ t) ─ y
                       └─ z                                        └─ z

torchao 0.18 folds each batch norm into the convolution or linear layer that it reads, whatever else reads that, and of
the batch norms of layers that share a weight the first alone. ExecuTorch 1.5 folds the norm of a sequence's channels
into the linear layer of the features before it. What is folded rightly stays as it is.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from edgepass.exporters._canonical._constants import Constants
from edgepass.quantize.norms import BATCH_NORM, of_outputs
from edgepass.quantize.pt2e import CUBIC, WEIGHTED


def formula(node: Node, constants: Constants) -> Callable[..., Tensor] | None:
    """The product and the sum, of a batch norm that would be folded into what is not its own."""
    if node.target != BATCH_NORM or node.args[5]:  # of a batch's own statistics
        return None
    layer: Any = node.args[0]
    if layer.target not in WEIGHTED | CUBIC:
        return None
    alike = (reader for reader in layer.args[1].users if reader.target in WEIGHTED | CUBIC)
    own = all(_followed(reader, node.args[1:]) for reader in alike)
    return None if own and of_outputs(layer) else batch_norm


def _followed(layer: Node, norm: tuple[Any, ...]) -> bool:
    """Whether what `layer` gives goes through that batch norm and nowhere else."""
    return all(user.target == BATCH_NORM and user.args[0] is layer and user.args[1:] == norm for user in layer.users)


def batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, variance: Tensor, *settings: Any
) -> Tensor:
    """(x - mean) / sqrt(variance + eps) · weight + bias, per channel, the second dimension (arXiv:1502.03167)."""
    eps = settings[2]  # behind whether it trains and its momentum
    scale = torch.rsqrt(variance + eps) if weight is None else weight * torch.rsqrt(variance + eps)
    shift = -mean * scale if bias is None else bias - mean * scale
    shape = [-1, *[1] * (x.dim() - 2)]
    return x * scale.reshape(shape) + shift.reshape(shape)
