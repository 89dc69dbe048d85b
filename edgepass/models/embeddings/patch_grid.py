"""Patches of every channel as a grid of variates by time, for passes that mix along either.

    t_cn = W [z_(c, nP) ... z_(c, nP + P - 1)] + b

Shapes: B batch, L lookback, C channels, P patch, K = ceil(L / P) patches of a channel, N = C * K tokens, D width.
Source: Nie et al., "A Time Series is Worth 64 Words: Long-term Forecasting with Transformers", 2023; the grid as in
Lan et al., "Gateformer: Advancing Multivariate Time Series Forecasting through Temporal and Variate-Wise Attention
with Gated Representations", 2025.
"""

from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.embeddings import patch
from edgepass.models.parts import Count, Tokens

GRADE = 0
SHAPE = ("lookback", "channels")


class Settings(parts.Settings, frozen=True):
    """`size` is in values."""

    size: Count = 16


class Embedding(nn.Module):
    """z_BLC -> x_BND, variate by variate."""

    def __init__(self, shape: tuple[int, ...], dim: int, settings: Settings) -> None:
        super().__init__()
        channels = shape[1]
        self.apart = patch.Embedding(shape, dim, patch.Settings(size=settings.size))
        self.tokens = Tokens((channels, *self.apart.tokens.grid), dim, variates=channels)

    def forward(self, z_BLC: Tensor) -> Tensor:
        """z_BLC -> x_BND."""
        x_SKD: Tensor = self.apart(z_BLC)
        return x_SKD.reshape(-1, self.tokens.count, self.tokens.dim)
