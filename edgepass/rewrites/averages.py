"""Means over windows that reach over the end, or of another divisor, as means over whole windows times a table.

    before   x ─ avg_pool2d(ceil_mode, divisor) ─ y          after   x ─ pad ─ avg_pool2d ─ (· size / counted) ─ y

onnxruntime 1.31 divides the last windows by what they reach over too, and its format has no other divisor.
"""

from collections.abc import Callable
from functools import reduce
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from edgepass.rewrites import LEFT_ALONE, Table, each
from edgepass.rewrites.last_windows import Mean, Windows

aten = torch.ops.aten


def is_uncommon(pool: Mean) -> bool:
    """Whether it has such windows or divisor."""
    return pool.ceil_mode or pool.divisor is not None


def _averages(pool: Callable[..., Tensor], dims: int) -> Callable[..., Any]:
    def formula(x: Tensor, *settings: Any) -> Any:
        asked = Mean(*settings)
        whole = x.shape[-dims:]
        if not is_uncommon(asked) or any(isinstance(size, torch.SymInt) for size in whole):
            return LEFT_ALONE
        kernel, jumps, edges = (each(n, dims) for n in (asked.kernel, asked.stride or asked.kernel, asked.padding))
        sides = [
            Windows(n, size, jump, edge, 1, asked.ceil_mode)
            for n, size, jump, edge in zip(whole, kernel, jumps, edges, strict=True)
        ]
        means = pool(functional.pad(x, [n for side in reversed(sides) for n in side.sides]), kernel, jumps)
        size = float(prod(kernel))
        if asked.divisor is not None:
            return means * (size / asked.divisor)
        counts = [_counted(side, n, asked.count_include_pad) for side, n in zip(sides, whole, strict=True)]
        return means * (size / reduce(lambda a, b: a.unsqueeze(-1) * b, counts)).to(means.dtype)

    return formula


def _counted(side: Windows, whole: int, include_pad: bool) -> Tensor:
    """Of how many numbers along a side each window is the mean."""
    starts = torch.arange(side.count) * side.jump - side.edge
    ends = starts + side.size
    low, high = (-side.edge, whole + side.edge) if include_pad else (0, whole)
    return (ends.clamp(max=high) - starts.clamp(min=low)).to(torch.float32)


TABLE: Table = {
    aten.avg_pool2d.default: _averages(functional.avg_pool2d, 2),
    aten.avg_pool3d.default: _averages(functional.avg_pool3d, 3),
}
"""A pool over lines is one over pictures by the time that it is a file."""
