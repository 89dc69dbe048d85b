"""Pictures in another size from the nearest neighbour, by look-ups.

    before   x ─ upsample_nearest ─ y        after   x ─ index_select(each side) ─ y     where sizes do not divide

TFLite's own takes another neighbour than torch wherever the factor is no whole number.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE, Table

aten = torch.ops.aten


def _nearest(x: Tensor, sizes: Sequence[int], scales: Sequence[float | None]) -> Tensor:
    """`x` in the `sizes` of its last dimensions, from the neighbour below."""
    dims = range(-len(sizes), 0)
    if any(isinstance(n, torch.SymInt) for n in x.shape[-len(sizes) :]) or all(
        size % x.shape[dim] == 0 for dim, size in zip(dims, sizes, strict=True)
    ):
        return LEFT_ALONE
    for dim, size, scale in zip(dims, sizes, scales, strict=True):
        have = x.shape[dim]
        if size != have:
            step = 1 / scale if scale else have / size
            at = (torch.arange(size, dtype=torch.float32) * step).floor().clamp(max=have - 1)
            x = x.index_select(dim, at.to(torch.int64))
    return x


def nearest(x: Tensor, size: Sequence[int], *scales: float | None) -> Tensor:
    """As torch.nn.functional.interpolate(mode="nearest") of one, two or three dimensions."""
    return _nearest(x, size, scales or [None] * len(size))


def nearest_by(x: Tensor, size: Sequence[int] | None, factors: Sequence[float] | None) -> Tensor:
    """The same where factors are given, or sizes."""
    sizes = size or [int(n * f) for n, f in zip(x.shape[2:], factors or (), strict=True)]
    return _nearest(x, sizes, factors if factors is not None else [None] * len(sizes))


TABLE: Table = {
    aten.upsample_nearest1d.default: nearest,
    aten.upsample_nearest2d.default: nearest,
    aten.upsample_nearest3d.default: nearest,
    aten.upsample_nearest1d.vec: nearest_by,
    aten.upsample_nearest2d.vec: nearest_by,
    aten.upsample_nearest3d.vec: nearest_by,
}
