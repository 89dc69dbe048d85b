"""Folds: heads, or the other axes of a grid, laid beside the batch, so that attention sees sequences.

Shapes: R rows, the batch times what is folded into it, B batch, N tokens, D channels, H heads, E = D / H, A tokens
along an axis.
"""

import math

from torch import Tensor

from edgepass.models import parts


def split(x_RND: Tensor, heads: int) -> Tensor:
    """x_RND -> x_RHNE."""
    _, tokens, dim = x_RND.shape
    return x_RND.reshape(-1, tokens, heads, dim // heads).transpose(1, 2)


def join(x_RHNE: Tensor) -> Tensor:
    """x_RHNE -> x_RND, the inverse of split."""
    _, heads, tokens, width = x_RHNE.shape
    return x_RHNE.transpose(1, 2).reshape(-1, tokens, heads * width)


def needs_axes(grid: tuple[int, ...]) -> None:
    """Raise InputError unless there are two axes, one of which can be laid beside the batch."""
    parts.must(
        len(grid) >= 2, "it needs tokens on a grid of two axes or more; the embedding patch_grid gives variates by time"
    )


def along(x_BND: Tensor, grid: tuple[int, ...], axis: int) -> Tensor:
    """x_BND over `grid` -> x_RAD, the sequences along `axis`."""
    inner, dim = math.prod(grid[axis + 1 :]), x_BND.shape[-1]
    if inner > 1:
        x_BND = x_BND.reshape(-1, grid[axis], inner, dim).transpose(1, 2)
    return x_BND.reshape(-1, grid[axis], dim)


def back(x_RAD: Tensor, grid: tuple[int, ...], axis: int) -> Tensor:
    """x_RAD -> x_BND, the inverse of along."""
    inner, dim = math.prod(grid[axis + 1 :]), x_RAD.shape[-1]
    if inner > 1:
        x_RAD = x_RAD.reshape(-1, inner, grid[axis], dim).transpose(1, 2)
    return x_RAD.reshape(-1, math.prod(grid), dim)
