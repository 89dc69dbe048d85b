"""Parts as slices.

    before   x ─ split, chunk ─ y0, y1 …         after   x ─ slice ─ y0,   x ─ slice ─ y1 …

XNNPACK runs slices and no splits, which end a delegate's part: in an LSTM at every step. And where the batch of
[batch, features] varies, on the way to ExecuTorch 1.5 it becomes the example's where the features are split.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE, Table


def split(x: Tensor, sizes: int | Sequence[int], dim: int = 0) -> list[Tensor]:
    """As torch.split."""
    whole = x.shape[dim]
    if isinstance(whole, torch.SymInt):
        return LEFT_ALONE
    if isinstance(sizes, int):
        sizes = [min(sizes, whole - start) for start in range(0, whole, sizes)]
    return [x.narrow(dim, sum(sizes[:i]), size) for i, size in enumerate(sizes)]


def chunk(x: Tensor, chunks: int, dim: int = 0) -> list[Tensor]:
    """As torch.chunk."""
    whole = x.shape[dim]
    return split(x, whole if isinstance(whole, torch.SymInt) else max(1, -(-whole // chunks)), dim)


ATEN = torch.ops.aten
TABLE: Table = {ATEN.split.Tensor: split, ATEN.split_with_sizes.default: split, ATEN.chunk.default: chunk}
