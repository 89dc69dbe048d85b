"""Mean over one dimension as a matrix product.

    before   x ─ mean(d) ─ y                 after   x ─ (d moved last) ─ matmul(1/D) ─ (moved back) ─ y

XNNPACK averages only the two innermost of four dimensions. Means over several dimensions are left as they are.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from edgepass.rewrites.norm import mean_last


def mean(x: Tensor, dims: Sequence[int] | None, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Tensor:
    """Mean over `dims`, as torch.mean."""
    if dims is None or len(dims) != 1 or dtype is not None or not x.is_floating_point():
        left_alone: Tensor = NotImplemented  # what torch.export takes for "not decomposed"
        return left_alone
    dim = dims[0] % x.dim()
    last = x.dim() - 1
    y = mean_last(x if dim == last else x.transpose(dim, last))
    y = y if dim == last else y.transpose(dim, last)
    return y if keepdim else y.reshape([n for d, n in enumerate(x.shape) if d != dim])


TABLE = {torch.ops.aten.mean.dim: mean}
