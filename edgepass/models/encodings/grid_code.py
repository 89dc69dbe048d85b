"""A token's place as grid cells would tell it: waves in a few directions, at geometrically growing scales.

    y_n = x_n + W f(p_n),    f(p) = [cos(2 pi k_i . p / l_s), sin(2 pi k_i . p / l_s)]  for every i and s
    l_s = l_0 r^s

p is the place on the grid, in tokens. The unit vectors k_i point from the centre of a regular simplex to its corners:
one direction on a line, three in a plane, four in space. f(p) . f(q) depends on p - q alone. The ratio r = e^(1/A) in
A dimensions is the most economical one. Scales are added until the longest wave is twice the grid's diagonal, so that
no two places look alike. The table W f is a constant in what is exported; W is learned, f is fixed.

Shapes: B batch, N tokens, D channels, A axes, F = 2 * directions * scales features; f is [N, F], W is [D, F].
Source: Li et al., "GridPE: Unifying Positional Encoding in Transformers with a Grid Cell-Inspired Framework", 2024;
the ratio: Wei et al., "A principle of economy predicts the functional architecture of grid cells", 2015.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepass.models import parts
from edgepass.models.baking import Baked
from edgepass.models.encodings import _grid
from edgepass.models.parts import Positive, Tokens

GRADE = 0


class Settings(parts.Settings, frozen=True):
    """`finest` is l_0, the shortest wave, in tokens."""

    finest: Positive = 4.0


class Encoding(nn.Module):
    """x_BND -> x_BND."""

    def __init__(self, tokens: Tokens, settings: Settings) -> None:
        super().__init__()
        self.position = Baked(Cells(tokens, settings.finest))

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        y_BND: Tensor = x_BND + self.position()
        return y_BND


class Cells(nn.Module):
    """Gives the table W f, [N, D]."""

    feature_NF: Tensor

    def __init__(self, tokens: Tokens, finest: float) -> None:
        super().__init__()
        self.register_buffer("feature_NF", features(tokens.grid, finest).float(), persistent=False)
        self.mix = nn.Linear(self.feature_NF.shape[1], tokens.dim, bias=False)
        nn.init.normal_(self.mix.weight, std=0.02)

    def forward(self) -> Tensor:
        """W f, [N, D]."""
        table_ND: Tensor = self.mix(self.feature_NF)
        return table_ND


def features(grid: tuple[int, ...], finest: float) -> Tensor:
    """f, [N, F] float64."""
    directions_IA = simplex(len(grid))
    ratio = math.exp(1 / len(grid))
    needed = 2 * math.hypot(*(n - 1 for n in grid))
    scales = 1 + max(0, math.ceil(math.log(max(needed, finest) / finest) / math.log(ratio)))
    along_NI = _grid.indices(grid) @ directions_IA.T
    angles = [2 * math.pi * along_NI / (finest * ratio**s) for s in range(scales)]
    return torch.cat([wave for angle_NI in angles for wave in (torch.cos(angle_NI), torch.sin(angle_NI))], dim=-1)


def simplex(dimensions: int) -> Tensor:
    """[directions, dimensions] float64: from the centre of a regular simplex to its corners; one of two on a line."""
    if dimensions == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    corners = torch.eye(dimensions + 1, dtype=torch.float64) - 1 / (dimensions + 1)
    # The corners span a hyperplane; Gram-Schmidt on all but the last of them is a basis of it.
    basis, _ = torch.linalg.qr(corners[:-1].T)
    return functional.normalize(corners @ basis, dim=1)
