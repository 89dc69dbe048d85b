"""Numbers of a dense tensor at given steps of its memory, by a look-up.

    before   x ─ as_strided(size, stride, offset) ─ y        after   x ─ flatten ─ [places] ─ reshape(size) ─ y

Longformer's windows, for one. No file has strides.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE, Table

aten = torch.ops.aten


def as_strided(x: Tensor, size: Sequence[int], stride: Sequence[int], offset: int | None = None) -> Tensor:
    """As torch.as_strided of what lies in the order of its dimensions."""
    if any(isinstance(n, torch.SymInt) for n in (*x.shape, *size, *stride)) or not x.is_contiguous():
        return LEFT_ALONE
    places = torch.full((1,), offset or 0, dtype=torch.int64)
    for number, step in zip(size, stride, strict=True):
        places = (places[:, None] + torch.arange(number) * step).flatten()
    return x.flatten().index_select(0, places).reshape(size)


TABLE: Table = {aten.as_strided.default: as_strided, aten.as_strided_copy.default: as_strided}
