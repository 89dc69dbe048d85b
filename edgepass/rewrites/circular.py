"""A pad that goes round, from the ends that it repeats.

    before   x ─ pad(left, right, "circular") ─ y        after   (x[−left :], x, x[: right]) ─ cat ─ y

coremltools 9.0 has no such mode.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE


def pad(x: Tensor, sizes: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """`x` with its own other end beside each end, the last dimension first, as torch.nn.functional.pad."""
    pairs = list(zip(sizes[::2], sizes[1::2], strict=True))
    dims = range(-1, -len(pairs) - 1, -1)
    if mode != "circular" or any(not 0 <= n <= x.shape[d] for d, pair in zip(dims, pairs, strict=True) for n in pair):
        return LEFT_ALONE
    for dim, (left, right) in zip(dims, pairs, strict=True):
        x = torch.cat([x.narrow(dim, x.shape[dim] - left, left), x, x.narrow(dim, 0, right)], dim)
    return x


TABLE = {torch.ops.aten.pad.default: pad}
