"""Cross entropy of what is said in shares, as a sum of logarithms.

    before   x, shares ─ cross_entropy ─ y           after   x ─ log_softmax ─ (· shares · weight) ─ sum ─ y

The loss of ONNX takes numbers of classes alone.
"""

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE, Table

aten = torch.ops.aten
NONE, MEAN, SUM = range(3)


def cross_entropy(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: int = MEAN,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Of [N, C, ...] and shares of the same shape, as torch.nn.functional.cross_entropy."""
    if not target.is_floating_point():
        return LEFT_ALONE
    dim = 1 if x.dim() > 1 else 0
    shares = target * (1 - label_smoothing) + label_smoothing / x.shape[dim] if label_smoothing else target
    if weight is not None:
        shares = shares * weight.reshape(-1, *[1] * (x.dim() - dim - 1))
    losses = -(torch.log_softmax(x, dim) * shares).sum(dim)
    if reduction == NONE:
        return losses
    return losses.mean() if reduction == MEAN else losses.sum()


TABLE: Table = {aten.cross_entropy_loss.default: cross_entropy}
