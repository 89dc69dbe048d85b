"""Attention whose affinities are learned for each offset, not computed: pointwise, depthwise, pointwise.

    v = V x,    z_n = sum over offsets o of a_o v_(n + o),    y = U z

The affinity a_o of a token to its neighbour depends on the offset alone, so that it is a depthwise convolution. The
frames of a video stay apart: no delegate takes a convolution over three axes.

Shapes: B batch, N tokens, D channels; V and U are [D, D], a is [D, window] along a sequence, [D, window, window] on a
grid.
Source: Li et al., "UniFormer: Unified Transformer for Efficient Spatiotemporal Representation Learning", 2022.
"""

from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.mixers._pictures import Depthwise
from edgepass.models.parts import Count, Tokens

GRADE = 0


class Settings(parts.Settings, frozen=True):
    """`window` is in tokens, and odd."""

    window: Count = 5


class Mixer(nn.Module):
    """Value, local affinity and fusion: x_BND -> x_BND."""

    def __init__(self, tokens: Tokens, settings: Settings) -> None:
        super().__init__()
        self.value = nn.Linear(tokens.dim, tokens.dim)
        self.affinity = Depthwise(tokens, tokens.dim, settings.window)
        self.fuse = nn.Linear(tokens.dim, tokens.dim)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        y_BND: Tensor = self.fuse(self.affinity(self.value(x_BND)))
        return y_BND
