"""An expansion written out: as many copies of the tensor as there are to be, side by side.

    before   x ─ expand(n) ─ y                   after   x, x, ... ─ cat ─ y

litert-torch 0.10 lays what an int8 convolution reads out anew, channels last, and an expansion's result with it, though
not what is expanded: "Output shape must be broadcastable from input shape". Files and arenas grow with every copy, so
what has a dimension with more than MOST of them stays an expansion.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE

MOST = 16


def expand(x: Tensor, size: Sequence[int], *, implicit: bool = False) -> Any:
    """x in this size; left alone where that is too large."""
    for _ in range(len(size) - x.dim()):
        x = x.unsqueeze(0)
    copies = [1 if n in (-1, have) else n for n, have in zip(size, x.shape, strict=True)]
    if max(copies, default=1) > MOST:
        return LEFT_ALONE
    for dim, n in enumerate(copies):
        x = torch.cat([x] * n, dim) if n > 1 else x
    return x


TABLE = {torch.ops.aten.expand.default: expand}
