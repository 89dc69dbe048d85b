"""Two streams side by side, and one linear map back to the channels of the first.

    y = W [x, z] + b

Shapes: B batch, N tokens, D channels, E channels of the other stream; x and y are [B, N, D], z is [B, N, E], W is
[D, D + E].
Source: Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015.
"""

import torch
from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.parts import Tokens

GRADE = 0


class Settings(parts.Settings, frozen=True):
    """There is nothing to set."""


class Merge(nn.Module):
    """x_BND, z_BNE -> x_BND. The streams may differ in width, not in the number of tokens."""

    def __init__(self, into: Tokens, other: Tokens, settings: Settings) -> None:
        super().__init__()
        parts.must(
            into.count == other.count,
            f"{other.count} tokens cannot stand beside {into.count}; cross_attend merges streams of any shape",
        )
        self.project = nn.Linear(into.dim + other.dim, into.dim)

    def forward(self, x_BND: Tensor, z_BNE: Tensor) -> Tensor:
        """x_BND, z_BNE -> x_BND."""
        y_BND: Tensor = self.project(torch.cat([x_BND, z_BNE], dim=-1))
        return y_BND
