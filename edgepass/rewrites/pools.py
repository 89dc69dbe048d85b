"""Adaptive pools as plain ones.

before   x ─ adaptive_avg_pool3d(n) ─ y
after    x ─ avg_pool3d(size / n) ─ y               where n divides the size, and else one dimension after the other
         x ─ mean of each part ─ cat ─ y            the largest of parts of pictures likewise
"""

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

from edgepass.rewrites import LEFT_ALONE

DIMS = 3


def adaptive_avg_pool3d(x: Tensor, size: Sequence[int]) -> Tensor:
    """Means of [..., D, H, W] in `size` parts along each, as torch.nn.functional.adaptive_avg_pool3d."""
    sizes = x.shape[-DIMS:]
    if any(isinstance(whole, torch.SymInt) for whole in sizes):
        return LEFT_ALONE
    if all(whole % parts == 0 for whole, parts in zip(sizes, size, strict=True)):
        kernel = [whole // parts for whole, parts in zip(sizes, size, strict=True)]
        return functional.avg_pool3d(x, kernel)
    for dim, (whole, parts) in enumerate(zip(sizes, size, strict=True), start=-DIMS):
        ends = _parts(whole, parts)
        x = torch.cat([x.narrow(dim, low, high - low).mean(dim, keepdim=True) for low, high in ends], dim)
    return x


def adaptive_max_pool2d(x: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The largest of each part of [..., H, W] and where it is, as torch.nn.functional.adaptive_max_pool2d."""
    high, wide = x.shape[-2:]
    if isinstance(high, torch.SymInt) or isinstance(wide, torch.SymInt):
        return LEFT_ALONE
    if high % size[0] == 0 and wide % size[1] == 0:
        return functional.max_pool2d_with_indices(x, [high // size[0], wide // size[1]])
    values, places = [], []
    for (top, bottom), (left, right) in product(_parts(high, size[0]), _parts(wide, size[1])):
        part = x[..., top:bottom, left:right].flatten(-2)
        at = part.argmax(-1)
        values.append(part.amax(-1))
        places.append((at // (right - left) + top) * wide + at % (right - left) + left)
    return torch.stack(values, -1).unflatten(-1, size), torch.stack(places, -1).unflatten(-1, size)


def _parts(whole: int, parts: int) -> list[tuple[int, int]]:
    """Where each of the parts of a side begins and ends."""
    return [(part * whole // parts, -(-(part + 1) * whole // parts)) for part in range(parts)]


def adaptive_max_pool1d(x: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The largest of each part of [..., L] and where it is, as torch.nn.functional.adaptive_max_pool1d."""
    found = adaptive_max_pool2d(x.unsqueeze(-2), (1, *size))
    return found if found is LEFT_ALONE else (found[0].squeeze(-2), found[1].squeeze(-2))


TABLE = {
    torch.ops.aten.adaptive_avg_pool3d.default: adaptive_avg_pool3d,
    torch.ops.aten.adaptive_max_pool1d.default: adaptive_max_pool1d,
    torch.ops.aten.adaptive_max_pool2d.default: adaptive_max_pool2d,
}
