"""Pools over volumes as two over pictures.

    before   x ─ avg_pool3d(d, h, w) ─ y     after   x ─ avg_pool2d(h, w) ─ avg_pool2d(d, 1) ─ y     max_pool3d likewise

ExecuTorch 1.5.1 has kernels of neither, and litert-torch 0.10 counts the places of the largest otherwise than torch.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from edgepass.rewrites import LEFT_ALONE, Table, each
from edgepass.rewrites.last_windows import Mean, Pool

DIMS = 3
Places = tuple[Tensor, Tensor]


def _twice(x: Tensor, pool: Callable[[Tensor, slice], Tensor]) -> Tensor:
    """`pool` over the last two of [..., D, H, W], and then over the one before; it is told which of the three."""
    pictures = x.reshape(-1, *x.shape[-DIMS:])
    flat = pool(pictures, slice(1, 3))
    rows = flat.reshape(len(flat), 1, flat.shape[1], -1)
    return pool(rows, slice(0, 1)).reshape(*x.shape[:-DIMS], -1, *flat.shape[2:])


def _twice_with_places(x: Tensor, pool: Callable[[Tensor, slice], Places]) -> Places:
    """The same of a pool that also says where its numbers come from, in [..., D · H · W]."""
    pictures = x.reshape(-1, *x.shape[-DIMS:])
    flat, at = pool(pictures, slice(1, 3))  # [N, D, h, w], at of H · W
    rows = flat.reshape(len(flat), 1, flat.shape[1], -1)
    found, of = pool(rows, slice(0, 1))  # [N, 1, d, h · w], of D · h · w
    planes = (of // rows.shape[-1]).squeeze(1)
    places = at.flatten(2).gather(1, planes) + planes * (x.shape[-1] * x.shape[-2])
    shape = (*x.shape[:-DIMS], -1, *flat.shape[2:])
    return found.reshape(shape), places.reshape(shape)


def _sizes(given: Sequence[int], which: slice, other: int) -> list[int]:
    """Of a pool over pictures: the last two of three, or the first and none."""
    sizes = each(given, DIMS)[which]
    return sizes if len(sizes) == 2 else [*sizes, other]


def avg_pool3d(x: Tensor, *settings: Any) -> Tensor:
    """Means over windows of [..., D, H, W], as torch.nn.functional.avg_pool3d."""
    kernel, stride, padding, ceil_mode, count_include_pad, divisor = Mean(*settings)
    return _twice(
        x,
        lambda y, of: functional.avg_pool2d(
            y,
            _sizes(kernel, of, 1),
            _sizes(stride or kernel, of, 1),
            _sizes(padding, of, 0),
            ceil_mode,
            count_include_pad,
            divisor if divisor is None or len(range(DIMS)[of]) == 1 else 1,
        ),
    )


def _of_pictures(pool: Pool, which: slice) -> tuple[Any, ...]:
    """What a pool over pictures takes, for one over volumes."""
    return (
        _sizes(pool.kernel, which, 1),
        _sizes(pool.stride or pool.kernel, which, 1),
        _sizes(pool.padding, which, 0),
        _sizes(pool.dilation, which, 1),
        pool.ceil_mode,
    )


def max_pool3d(x: Tensor, *settings: Any) -> Tensor:
    """The largest in windows of [..., D, H, W], as torch.nn.functional.max_pool3d."""
    pool = Pool(*settings)
    return _twice(x, lambda y, of: functional.max_pool2d(y, *_of_pictures(pool, of)))


def with_places(x: Tensor, *settings: Any) -> Places:
    """As torch.nn.functional.max_pool3d(return_indices=True)."""
    pool = Pool(*settings)
    return _twice_with_places(x, lambda y, of: torch.ops.aten.max_pool2d_with_indices(y, *_of_pictures(pool, of)))


def adaptive_max_pool3d(x: Tensor, size: Sequence[int]) -> Places:
    """The largest of each part of [..., D, H, W] and where it is, as torch.nn.functional.adaptive_max_pool3d."""
    if any(isinstance(whole, torch.SymInt) for whole in x.shape[-DIMS:]):
        return LEFT_ALONE

    def pool(y: Tensor, of: slice) -> Places:
        found: Places = torch.ops.aten.adaptive_max_pool2d(y, _sizes(size, of, y.shape[-1]))
        return found

    return _twice_with_places(x, pool)


ATEN = torch.ops.aten
TABLE: Table = {
    ATEN.avg_pool3d.default: avg_pool3d,
    ATEN.max_pool3d.default: max_pool3d,
    ATEN.max_pool3d_with_indices.default: with_places,
    ATEN.adaptive_max_pool3d.default: adaptive_max_pool3d,
}
