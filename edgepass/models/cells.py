"""Tokens cut into cells of neighbours, along time or over a plane: where groups and coarser scales come from.

A cell is `size` tokens along time, or `size` by `size` of them over the last two axes of a grid. Variates and frames
are never in one cell. An axis that the size does not divide is filled with zero tokens at its start, a history's far
end; they are dropped again when the cells are joined, and no mean counts them. A size beyond an axis is that axis.

Shapes: B batch, N tokens, D channels, M cells, I tokens in a cell, J = B * M cells of the batch.
"""

import math

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepass.models import parts
from edgepass.models.parts import Tokens


def plane(tokens: Tokens) -> tuple[int, ...]:
    """The axes that neighbours lie along: (time,) or (rows, columns). Raises InputError where there are none."""
    axes = tokens.grid[1:] if tokens.variates > 1 else tokens.grid
    parts.must(
        len(axes) > 0,
        f"each of the {tokens.count} tokens is a whole variate, so none are neighbours in time; "
        "an embedding such as patch or patch_grid gives a variate several tokens",
    )
    return axes[-2:]


def on(tokens: Tokens, axes: tuple[int, ...]) -> Tokens:
    """The same tokens with other lengths of their plane."""
    return msgspec.structs.replace(tokens, grid=tokens.grid[: -len(axes)] + axes)


class Cells(nn.Module):
    """What cuts tokens into cells, joins them, averages each to a coarser token, and spreads coarser tokens out.

    `inside` are the tokens of one cell, `coarse` those that have one for each cell.
    """

    share_M1: Tensor
    ones_I1: Tensor

    def __init__(self, tokens: Tokens, size: int) -> None:
        super().__init__()
        axes = plane(tokens)
        sizes = tuple(min(size, n) for n in axes)
        counts = tuple(-(-n // s) for n, s in zip(axes, sizes, strict=True))
        self.fine, self.inside, self.coarse = tokens, Tokens(sizes, tokens.dim), on(tokens, counts)
        self.plane, self.cell, self.counts = ((1, *x)[-2:] for x in (axes, sizes, counts))
        self.short = tuple(c * s - n for n, s, c in zip(self.plane, self.cell, self.counts, strict=True))
        full = torch.ones(1, *self.plane, 1)
        held_M = self._cut(full).sum(dim=(1, 2)).repeat(self.coarse.count // math.prod(counts))
        self.register_buffer("share_M1", (self.inside.count / held_M)[:, None], persistent=False)
        self.register_buffer("ones_I1", torch.ones(self.inside.count, 1), persistent=False)

    def split(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_JID."""
        return self._cut(x_BND.reshape(-1, *self.plane, x_BND.shape[-1]))

    def join(self, x_JID: Tensor) -> Tensor:
        """x_JID -> x_BND, what `split` was given."""
        dim, (height, width), (down, across) = x_JID.shape[-1], self.cell, self.counts
        if height > 1:
            x_JID = x_JID.reshape(-1, across, height, width * dim).transpose(1, 2)
        grid = x_JID.reshape(-1, down * height, across * width, dim)
        return grid[:, self.short[0] :, self.short[1] :].reshape(-1, self.fine.count, dim)

    def mean(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BMD, the mean of the tokens that each cell holds."""
        x_BMD = self.split(x_BND).mean(dim=1).reshape(-1, self.coarse.count, x_BND.shape[-1])
        return x_BMD * self.share_M1 if any(self.short) else x_BMD

    def spread(self, x_BMD: Tensor) -> Tensor:
        """x_BMD -> x_BND, each token of a cell the coarser token that stands for it."""
        # A product with ones, because delegates multiply what they do not repeat.
        return self.join(x_BMD.reshape(-1, 1, x_BMD.shape[-1]) * self.ones_I1)

    def _cut(self, grid: Tensor) -> Tensor:
        dim, (height, width), (_, across) = grid.shape[-1], self.cell, self.counts
        if any(self.short):
            grid = functional.pad(grid, (0, 0, self.short[1], 0, self.short[0], 0))
        if height > 1:
            grid = grid.reshape(-1, height, across, width * dim).transpose(1, 2)
        return grid.reshape(-1, height * width, dim)
