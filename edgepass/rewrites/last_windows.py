"""Windows that reach over the end, as windows of what ends where they do.

    before   x ─ max_pool2d(ceil_mode) ─ y           after   x ─ pad(-inf) ─ max_pool2d ─ y

litert-torch 0.10 keeps the windows that torch leaves out, and reads a padding that is given once as one of rows alone;
of a single picture without a batch it makes a transpose that is none.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from edgepass.rewrites import LEFT_ALONE, Table, each

aten = torch.ops.aten


class Pool(NamedTuple):
    """What torch's max pools take behind their input: a number for each side, or one for all of them."""

    kernel: Sequence[int]
    stride: Sequence[int] = ()
    padding: Sequence[int] = (0,)
    dilation: Sequence[int] = (1,)
    ceil_mode: bool = False


class Mean(NamedTuple):
    """What torch's average pools take behind their input, likewise."""

    kernel: Sequence[int]
    stride: Sequence[int] = ()
    padding: Sequence[int] = (0,)
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor: int | None = None


class Windows:
    """Along one side: their size, steps, and the padding that ends where the last of them does."""

    def __init__(self, whole: int, size: int, jump: int, edge: int, step: int, over_the_end: bool) -> None:
        reach = step * (size - 1) + 1
        beyond = whole + 2 * edge - reach
        self.count = (-(-beyond // jump) if over_the_end else beyond // jump) + 1
        self.count -= over_the_end and (self.count - 1) * jump >= whole + edge  # one that would begin beyond the end
        self.size, self.jump, self.step, self.edge = size, jump, step, edge
        self.sides = (edge, max(0, (self.count - 1) * jump + reach - whole - edge))
        self.last = (self.count - 1) * jump


def windows(x: Tensor, pool: Pool) -> tuple[Windows, Windows]:
    given = [each(n, 2) for n in (pool.kernel, pool.stride or pool.kernel, pool.padding, pool.dilation)]
    sides = zip(x.shape[-2:], *given, strict=True)  # of [..., H, W]
    over = pool.ceil_mode
    rows, columns = (Windows(whole, size, jump, edge, step, over) for whole, size, jump, edge, step in sides)
    return rows, columns


def varies(x: Tensor) -> bool:
    return any(isinstance(n, torch.SymInt) for n in x.shape[-2:])


def max_pool2d(x: Tensor, *settings: Any) -> Any:
    """The largest in windows of which the last may reach over the end, as torch.nn.functional.max_pool2d."""
    pool = Pool(*settings)
    if not pool.ceil_mode or varies(x):
        return LEFT_ALONE
    rows, columns = both = windows(x, pool)
    padded = functional.pad(x, [*columns.sides, *rows.sides], value=-math.inf)
    sizes, jumps, steps = zip(*((of.size, of.jump, of.step) for of in both), strict=True)
    return functional.max_pool2d(padded, sizes, jumps, 0, steps)


def avg_pool2d(x: Tensor, *settings: Any) -> Any:
    """As torch.nn.functional.avg_pool2d, of one picture too, and where sizes are given once for both sides."""
    kernel, stride, padding, *how = Mean(*settings)
    plain = len(padding) == 2 or not any(padding)  # torch drops a padding of [0, 0], which is its default
    if x.dim() == 4 and len(kernel) == len(stride or kernel) == 2 and plain:
        return LEFT_ALONE
    pictures = x if x.dim() == 4 else x.unsqueeze(0)
    y = aten.avg_pool2d.default(pictures, each(kernel, 2), each(stride or kernel, 2), each(padding, 2), *how)
    return y if x.dim() == 4 else y.squeeze(0)


TABLE: Table = {
    aten.max_pool2d.default: max_pool2d,
    aten.avg_pool2d.default: avg_pool2d,
}
