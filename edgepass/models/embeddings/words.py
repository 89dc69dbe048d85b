"""Token ids as rows of a table.

    t_n = E[w_n]

Shapes: B batch, N tokens, V vocabulary, D width; w is [B, N] int64 in 0 .. V - 1, E is [V, D].
Source: Bengio et al., "A Neural Probabilistic Language Model", 2003.
"""

from typing import Any

from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.parts import Count, Tokens

GRADE = 2
SHAPE = ("tokens",)
EXAMPLE: dict[str, Any] = {"head": {"name": "classify"}}
"""A text and its class."""


class Settings(parts.Settings, frozen=True):
    """`vocabulary` is how many ids there are."""

    vocabulary: Count = 32


class Embedding(nn.Module):
    """w_BN int64 -> x_BND."""

    def __init__(self, shape: tuple[int, ...], dim: int, settings: Settings) -> None:
        super().__init__()
        self.tokens = Tokens(shape, dim)
        self.table = nn.Embedding(settings.vocabulary, dim)

    def forward(self, w_BN: Tensor) -> Tensor:
        """w_BN int64 -> x_BND."""
        x_BND: Tensor = self.table(w_BN)
        return x_BND
