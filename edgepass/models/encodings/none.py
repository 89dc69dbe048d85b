"""No encoding: tokens carry their order in what they hold, or need none.

    y_n = x_n

Shapes: B batch, N tokens, D channels; x and y are [B, N, D].
Source: Haviv et al., "Transformer Language Models without Positional Encodings Still Learn Positional
Information", 2022.
"""

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

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        return x_BND
