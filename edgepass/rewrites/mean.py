"""Mean over the last dimension as a matrix product.

    before   x ─ mean(-1) ─ y                after   x ─ matmul(1/D) ─ y

XNNPACK averages only the two innermost of four dimensions. Other means are left as they are.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from edgepass.rewrites.norm import mean_last


def mean(x: Tensor, dims: Sequence[int] | None, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Tensor:
    """Mean over `dims`, as torch.mean."""
    last_only = dims is not None and [d % x.dim() for d in dims] == [x.dim() - 1]
    if not last_only or dtype is not None or not x.is_floating_point():
        return NotImplemented
    y = mean_last(x)
    return y if keepdim else y.reshape(x.shape[:-1])


TABLE = {torch.ops.aten.mean.dim: mean}
