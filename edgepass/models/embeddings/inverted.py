"""A token is the whole history of one variate, so that mixers mix variates.

    t_c = W z_c + b,    z_c the lookback of variate c

Shapes: B batch, L lookback, C channels = tokens, D width; W is [D, L].
Source: Liu et al., "iTransformer: Inverted Transformers Are Effective for Time Series Forecasting", 2024.
"""

from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.parts import Tokens

GRADE = 0
SHAPE = ("lookback", "channels")


class Settings(parts.Settings, frozen=True):
    """There is nothing to set."""


class Embedding(nn.Module):
    """z_BLC -> x_BCD."""

    def __init__(self, shape: tuple[int, ...], dim: int, settings: Settings) -> None:
        super().__init__()
        lookback, channels = shape
        self.tokens = Tokens((channels,), dim, variates=channels)
        self.project = nn.Linear(lookback, dim)

    def forward(self, z_BLC: Tensor) -> Tensor:
        """z_BLC -> x_BCD."""
        x_BCD: Tensor = self.project(z_BLC.transpose(1, 2))
        return x_BCD
