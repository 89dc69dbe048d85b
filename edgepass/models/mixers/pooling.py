"""Averages of neighbours, without a single weight: the cheapest mixer.

    y_n = mean of x over the window around n - x_n

Windows at the border average the tokens that are there. The difference leaves the skip around it to carry the token.

Shapes: B batch, N tokens, D channels; x and y are [B, N, D]. The window is along a sequence, or square on a grid.
Source: Yu et al., "MetaFormer Is Actually What You Need for Vision", 2022.
"""

from torch import Tensor, nn
from torch.nn import functional

from edgepass.models import parts
from edgepass.models.mixers import _pictures
from edgepass.models.parts import Count, Tokens

GRADE = 0


class Settings(parts.Settings, frozen=True):
    """`window` is in tokens, and odd."""

    window: Count = 3


class Mixer(nn.Module):
    """Average pooling less the token: x_BND -> x_BND."""

    def __init__(self, tokens: Tokens, settings: Settings) -> None:
        super().__init__()
        self.size, self.count = _pictures.size(tokens), tokens.count
        self.window = _pictures.kernel(self.size, settings.window)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        x_SDRC = _pictures.pictures(x_BND, self.size)
        pad = _pictures.padding(self.window)
        mean_SDRC = functional.avg_pool2d(x_SDRC, self.window, 1, pad, count_include_pad=False)
        return _pictures.tokens_of(mean_SDRC, self.count) - x_BND
