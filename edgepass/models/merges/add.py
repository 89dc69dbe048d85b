"""The sum of two streams of one shape.

    y = x + z

Shapes: B batch, N tokens, D channels; x, y and z are [B, N, D].
Source: He et al., "Deep Residual Learning for Image Recognition", 2016.
"""

from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.parts import Tokens

GRADE = 0


class Settings(parts.Settings, frozen=True):
    """There is nothing to set."""


class Merge(nn.Module):
    """x_BND, z_BND -> x_BND."""

    def __init__(self, into: Tokens, other: Tokens, settings: Settings) -> None:
        super().__init__()
        parts.alike(into, other)

    def forward(self, x_BND: Tensor, z_BND: Tensor) -> Tensor:
        """x_BND, z_BND -> x_BND."""
        return x_BND + z_BND
