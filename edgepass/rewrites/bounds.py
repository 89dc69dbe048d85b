"""A clamp between tensors as the smaller of the larger.

    before   x ─ clamp(low, high) ─ y        after   x ─ maximum(low) ─ minimum(high) ─ y

Where the bounds cross torch gives the upper one, and coremltools 9.0 the lower.
"""

import torch
from torch import Tensor


def clamp(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """`x` between `low` and `high`, as torch.clamp."""
    x = x if low is None else torch.maximum(x, low)
    return x if high is None else torch.minimum(x, high)


TABLE = {torch.ops.aten.clamp.Tensor: clamp}
