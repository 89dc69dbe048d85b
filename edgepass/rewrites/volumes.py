"""Pools over volumes as two over pictures.

    before   x ─ avg_pool3d(d, h, w) ─ y     after   x ─ avg_pool2d(h, w) ─ avg_pool2d(d, 1) ─ y     max_pool3d likewise

ExecuTorch 1.5.1 has kernels of neither.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from edgepass.rewrites import LEFT_ALONE, Table, each
from edgepass.rewrites.last_windows import Pool

DIMS = 3


def _twice(x: Tensor, pool: Callable[[Tensor, slice], Tensor]) -> Tensor:
    """`pool` over the last two of [..., D, H, W], and then over the one before; it is told which of the three."""
    pictures = x.reshape(-1, *x.shape[-DIMS:])
    flat = pool(pictures, slice(1, 3))
    rows = flat.reshape(len(flat), 1, flat.shape[1], -1)
    return pool(rows, slice(0, 1)).reshape(*x.shape[:-DIMS], -1, *flat.shape[2:])


def _sizes(given: Sequence[int], which: slice, other: int) -> list[int]:
    """Of a pool over pictures: the last two of three, or the first and none."""
    sizes = each(given, DIMS)[which]
    return sizes if len(sizes) == 2 else [*sizes, other]


def avg_pool3d(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
) -> Tensor:
    """Means over windows of [..., D, H, W], as torch.nn.functional.avg_pool3d."""
    if ceil_mode or divisor is not None or (any(padding) and not count_include_pad):
        return LEFT_ALONE
    return _twice(
        x,
        lambda y, of: functional.avg_pool2d(
            y, _sizes(kernel, of, 1), _sizes(stride or kernel, of, 1), _sizes(padding, of, 0)
        ),
    )


def max_pool3d(x: Tensor, *settings: Any) -> Tensor:
    """The largest in windows of [..., D, H, W], as torch.nn.functional.max_pool3d."""
    pool = Pool(*settings)
    return _twice(
        x,
        lambda y, of: functional.max_pool2d(
            y,
            _sizes(pool.kernel, of, 1),
            _sizes(pool.stride or pool.kernel, of, 1),
            _sizes(pool.padding, of, 0),
            _sizes(pool.dilation, of, 1),
            pool.ceil_mode,
        ),
    )


TABLE: Table = {torch.ops.aten.avg_pool3d.default: avg_pool3d, torch.ops.aten.max_pool3d.default: max_pool3d}
