"""Mean over one dimension as a matrix product.

    before   x ─ mean(d) ─ y                 after   x ─ (d moved last) ─ matmul(1/D) ─ (moved back) ─ y

XNNPACK averages only the two innermost of four dimensions. Means over several dimensions are left as they are, and so
is one over a dimension whose size varies: there is no constant 1/D.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE
from edgepass.rewrites.norm import mean_last


def mean(x: Tensor, dims: Sequence[int] | None, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Tensor:
    """Mean over `dims`, as torch.mean."""
    single = dims is not None and len(dims) == 1 and x.dim() > 0 and dtype is None and x.is_floating_point()
    if dims is None or not single or isinstance(x.shape[dims[0]], torch.SymInt):
        return LEFT_ALONE
    dim = dims[0] % x.dim()
    last = x.dim() - 1
    y = mean_last(x if dim == last else x.transpose(dim, last))
    y = y if dim == last else y.transpose(dim, last)
    return y if keepdim else y.reshape([n for d, n in enumerate(x.shape) if d != dim])


TABLE = {torch.ops.aten.mean.dim: mean}
