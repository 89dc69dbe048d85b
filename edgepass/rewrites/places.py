"""Where the largest of each window is, and windows of every second number, by each of their places.

    before   x ─ max_pool2d_with_indices ─ y, at     after   x ─ pad(-inf) ─ every place in a window ─ stack ─ max ─ y
                                                                                                     └ argmax ─ at

litert-torch 0.10 counts places in another order, and coremltools 9.0 gives none and takes no dilated windows.
"""

import math
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from edgepass.rewrites import LEFT_ALONE, Table
from edgepass.rewrites.last_windows import Pool, varies, windows

aten = torch.ops.aten


def with_places(x: Tensor, *settings: Any) -> Any:
    """As torch.nn.functional.max_pool2d(return_indices=True): places in [..., H · W]."""
    if varies(x):
        return LEFT_ALONE
    rows, columns = windows(x, Pool(*settings))
    padded = functional.pad(x, [*columns.sides, *rows.sides], value=-math.inf)
    every = aten.slice.Tensor
    found = []
    for row, column in product(range(rows.size), range(columns.size)):
        y = every(padded, -2, row * rows.step, row * rows.step + rows.last + 1, rows.jump)
        found.append(every(y, -1, column * columns.step, column * columns.step + columns.last + 1, columns.jump))
    stacked = torch.stack(found, -1)
    which = stacked.argmax(-1)
    down = torch.arange(rows.count)[:, None] * rows.jump - rows.edge + which // columns.size * rows.step
    along = torch.arange(columns.count) * columns.jump - columns.edge + which % columns.size * columns.step
    return stacked.amax(-1), down * x.shape[-1] + along


def with_places_of_rows(x: Tensor, *settings: Any) -> Any:
    """As torch.nn.functional.max_pool1d(return_indices=True)."""
    of = Pool(*settings)
    given = ([1, *of.kernel], [1, *(of.stride or of.kernel)], [0, *of.padding], [1, *of.dilation])
    made = with_places(x.unsqueeze(-2), *given, of.ceil_mode)
    return made if made is LEFT_ALONE else tuple(y.squeeze(-2) for y in made)


def dilated(x: Tensor, *settings: Any) -> Any:
    """The largest of windows with gaps, as torch.nn.functional.max_pool2d(dilation=2); other pools stay as they are."""
    if max(Pool(*settings).dilation) == 1:
        return LEFT_ALONE
    found = with_places(x, *settings)
    return found if found is LEFT_ALONE else found[0]


TABLE: Table = {
    aten.max_pool1d_with_indices.default: with_places_of_rows,
    aten.max_pool2d_with_indices.default: with_places,
    aten.max_pool2d.default: dilated,
}
