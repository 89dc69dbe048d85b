"""Pictures smoothed as they shrink, by products with tables.

    before   x ─ upsample_bilinear2d_aa ─ y          after   x ─ matmul(columns) ─ matmul(rows) ─ y

coremltools 9.0 takes it for the one that does not smooth, and other converters do not know it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE, Table

aten = torch.ops.aten


def _smoothing(have: int, size: int, aligned: bool, scale: float | None) -> Tensor:
    """[size, have]: how much of each pixel is in each, as torch's UpSampleKernel.cpp counts."""
    corners = (have - 1) / (size - 1) if size > 1 else 0.0
    step = corners if aligned else 1 / scale if scale else have / size
    reach = max(step, 1.0)
    centres = (torch.arange(size, dtype=torch.float32) + 0.5) * step
    first = (centres - reach + 0.5).trunc().clamp(min=0)[:, None]
    last = (centres + reach + 0.5).trunc().clamp(max=have)[:, None]
    pixels = torch.arange(have, dtype=torch.float32)
    weights = (1 - ((pixels + 0.5 - centres[:, None]) / reach).abs()).clamp(min=0)
    weights = weights * ((pixels >= first) & (pixels < last)).to(torch.float32)
    return weights / weights.sum(1, keepdim=True)


def smoothed(
    x: Tensor, size: Sequence[int], align_corners: bool, high: float | None = None, wide: float | None = None
) -> Tensor:
    """As torch.nn.functional.interpolate(mode="bilinear", antialias=True)."""
    if any(isinstance(n, torch.SymInt) for n in x.shape[-2:]):
        return LEFT_ALONE
    (have_high, have_wide), (to_high, to_wide) = x.shape[-2:], size
    rows = _smoothing(have_high, to_high, align_corners, high)
    columns = _smoothing(have_wide, to_wide, align_corners, wide)
    return torch.matmul(rows, torch.matmul(x, columns.T))


def smoothed_by(x: Tensor, size: Sequence[int] | None, align_corners: bool, factors: Sequence[float] | None) -> Tensor:
    """The same where factors are given, or sizes."""
    sizes = size or [int(n * f) for n, f in zip(x.shape[2:], factors or (), strict=True)]
    return smoothed(x, sizes, align_corners, *(factors or ()))


TABLE: Table = {aten._upsample_bilinear2d_aa.default: smoothed, aten._upsample_bilinear2d_aa.vec: smoothed_by}
