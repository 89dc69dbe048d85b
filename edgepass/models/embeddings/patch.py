"""Patches of neighbouring values as tokens, of one channel each or of all of them.

    t_n = W [z_(nP) ... z_(nP + P - 1)] + b

Channels that are apart share all weights and never meet. A lookback that the patch does not divide is filled with
zeros, the window's mean, at its far end.

Shapes: B batch, L lookback, C channels, P patch, N = ceil(L / P) tokens, D width; S = B * C apart, B together.
Source: Nie et al., "A Time Series is Worth 64 Words: Long-term Forecasting with Transformers", 2023.
"""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from edgepass.models import parts
from edgepass.models.parts import Count, Tokens

GRADE = 0
SHAPE = ("lookback", "channels")


class Settings(parts.Settings, frozen=True):
    """`size` is in values; 1 makes every point a token. Channels are `apart` or `together` in a token."""

    size: Count = 16
    channels: Literal["apart", "together"] = "apart"


class Embedding(nn.Module):
    """z_BLC -> x_SND."""

    def __init__(self, shape: tuple[int, ...], dim: int, settings: Settings) -> None:
        super().__init__()
        self.lookback, self.channels = shape
        self.together = settings.channels == "together"
        self.size = min(settings.size, self.lookback)
        self.tokens = Tokens((-(-self.lookback // self.size),), dim, folded=1 if self.together else self.channels)
        self.project = nn.Linear(self.size * (self.channels if self.together else 1), dim)

    def forward(self, z_BLC: Tensor) -> Tensor:
        """z_BLC -> x_SND."""
        count = self.tokens.count
        short = count * self.size - self.lookback
        z_BCL = z_BLC if self.together else z_BLC.transpose(1, 2)
        if short:
            z_BCL = functional.pad(z_BCL, (0, 0, short, 0) if self.together else (short, 0))
        x_SND: Tensor = self.project(z_BCL.reshape(-1, count, self.project.in_features))
        return x_SND
