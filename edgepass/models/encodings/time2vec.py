"""Learned waves of each token's place, added.

    y_n = x_n + sum_a W_a t(n_a / N_a),    t(p)_0 = w_0 p + c_0,    t(p)_k = sin(w_k p + c_k)  for k = 1 .. K-1

for every axis a of the grid, with frequencies w and phases c of its own; n_a is the token's index along it. To
concatenate t to a token and map both linearly, as the source does, is to add W t.

Time here is relative to the window, so all of it is one table by the time of export and no target meets a sine.
Absolute time, such as the hour of the day, would be an input.

Shapes: B batch, N tokens, D channels, A axes of N_a tokens each, K waves; W_a is [D, K], w and c are [A, K].
Source: Bui et al., "Transformer Encoder and Multi-features Time2Vec for Financial Prediction", 2025; t: Kazemi et al.,
"Time2Vec: Learning a Vector Representation of Time", 2019.
"""

import math

import torch
from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.baking import Baked
from edgepass.models.encodings import _grid
from edgepass.models.parts import Count, Tokens

GRADE = 0


class Settings(parts.Settings, frozen=True):
    """`waves` is K, of each axis; the first of them is a straight line."""

    waves: Count = 16


class Encoding(nn.Module):
    """x_BND -> x_BND."""

    def __init__(self, tokens: Tokens, settings: Settings) -> None:
        super().__init__()
        self.position = Baked(Waves(tokens, settings.waves))

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        y_BND: Tensor = x_BND + self.position()
        return y_BND


class Waves(nn.Module):
    """Gives the table t_ND. The first waves are spread evenly from half a period over an axis to two tokens each."""

    place_NA: Tensor

    def __init__(self, tokens: Tokens, waves: int) -> None:
        super().__init__()
        extents = torch.tensor(tokens.grid, dtype=torch.float64)
        self.register_buffer("place_NA", (_grid.indices(tokens.grid) / extents).float(), persistent=False)
        spread_AK = torch.stack([torch.linspace(1.0, max(n, 2) - 1.0, waves) for n in tokens.grid])
        self.frequency_AK = nn.Parameter(math.pi * spread_AK)
        self.phase_AK = nn.Parameter(2 * math.pi * torch.rand(len(tokens.grid), waves))
        self.mix = nn.Linear(len(tokens.grid) * waves, tokens.dim, bias=False)
        nn.init.normal_(self.mix.weight, std=0.02)

    def forward(self) -> Tensor:
        """t_ND."""
        angle_NAK = self.place_NA[..., None] * self.frequency_AK + self.phase_AK
        wave_NAK = torch.cat([angle_NAK[..., :1], torch.sin(angle_NAK[..., 1:])], dim=-1)
        table_ND: Tensor = self.mix(wave_NAK.flatten(1))
        return table_ND
