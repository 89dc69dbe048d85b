"""A learned vector for every position, added.

    y_n = x_n + p_n

Shapes: B batch, N tokens, D channels; p is [N, D].
Source: Gehring et al., "Convolutional Sequence to Sequence Learning", 2017.
"""

import torch
from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.parts import Tokens

GRADE = 0


class Settings(parts.Settings, frozen=True):
    """There is nothing to set."""


class Encoding(nn.Module):
    """x_BND -> x_BND."""

    def __init__(self, tokens: Tokens, settings: Settings) -> None:
        super().__init__()
        self.position_ND = nn.Parameter(torch.randn(tokens.count, tokens.dim) * 0.02)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        return x_BND + self.position_ND
