"""Attention along each axis of the grid: rows, columns and so on, each a sequence of its own.

    Y = m_2(m_1(X))        chain: along axis 1, then what that gave along axis 2, and on
    Y = m_1(X) + m_2(X)    sum: side by side

with multi-head attention m_i over the tokens that differ in coordinate i alone, and weights of its own. A chain lets
every token reach every other, at a cost of N times the sum of the axes' lengths, not N * N.

Shapes: B batch, N tokens over the grid, D channels; along an axis of A tokens, m_i sees [B * N / A, A, D].
Source: Ho et al., "Axial Attention in Multidimensional Transformers", 2019.
"""

from typing import Any, Literal

from torch import Tensor, nn

from edgepass.models import folds, parts
from edgepass.models.mixers import local_attention
from edgepass.models.parts import Count, Tokens

GRADE = 1
EXAMPLE: dict[str, Any] = {"embedding": {"name": "patch_grid", "size": 4}}
"""A grid of variates by time."""


class Settings(parts.Settings, frozen=True):
    """Axes one after another in a `chain`, or their `sum`."""

    heads: Count = 4
    join: Literal["chain", "sum"] = "chain"


class Mixer(nn.Module):
    """Attention along every axis, x_BND -> x_BND. `heads` must divide the channels."""

    def __init__(self, tokens: Tokens, settings: Settings) -> None:
        super().__init__()
        self.grid, self.chain = tokens.grid, settings.join == "chain"
        folds.needs_axes(self.grid)
        self.axes = nn.ModuleList(
            local_attention.Mixer(Tokens((n,), tokens.dim), local_attention.Settings(heads=settings.heads, window=n))
            for n in self.grid
        )

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        if self.chain:
            for axis in range(len(self.grid)):
                x_BND = self._attend(x_BND, axis)
            return x_BND
        y_BND = self._attend(x_BND, 0)
        for axis in range(1, len(self.grid)):
            y_BND = y_BND + self._attend(x_BND, axis)
        return y_BND

    def _attend(self, x_BND: Tensor, axis: int) -> Tensor:
        return folds.back(self.axes[axis](folds.along(x_BND, self.grid, axis)), self.grid, axis)
