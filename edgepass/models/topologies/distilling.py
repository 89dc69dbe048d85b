"""Passes one after another, the number of tokens halved between them.

    x_(i+1) = pool(elu(conv(pass_i(x_i)))),    the last pass without it

The convolution is three tokens wide, the pool takes the largest of three at every second: ceil(n / 2) of n tokens are
left. Over a plane both axes are halved. Of Informer this is the distilling alone: its sparse attention samples, sorts
and gathers, which no delegate does, so any mixer stands in for it; its one-shot horizon is the forecast head.

Shapes: B batch, N tokens, D channels, S sequences or frames; what comes out is [B, M, D], M about N / 2^(passes - 1).
Source: Zhou et al., "Informer: Beyond Efficient Transformer for Long Sequence Time-Series Forecasting", 2021.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from edgepass.models import parts
from edgepass.models.config import PassConfig
from edgepass.models.halving import Halving
from edgepass.models.parts import Tokens
from edgepass.models.passes import Pass

GRADE = 1


class Settings(parts.Settings, frozen=True):
    """There is nothing to set."""


class Distil(Halving):
    """x_BND -> x_BMD."""

    def __init__(self, tokens: Tokens) -> None:
        super().__init__(tokens, tokens.dim)
        self.conv = nn.Conv2d(tokens.dim, tokens.dim, self.kernel, padding=self.padding)

    def halved(self, x_SDRC: Tensor) -> Tensor:
        """The largest of three neighbours, each of them a map of three."""
        return functional.max_pool2d(functional.elu(self.conv(x_SDRC)), self.kernel, self.stride, self.padding)


class Topology(nn.Module):
    """x_BND -> x_BMD."""

    def __init__(self, tokens: Tokens, passes: Sequence[PassConfig], settings: Settings) -> None:
        super().__init__()
        parts.must(len(passes) >= 2, f"it halves between passes and needs at least 2; there is {len(passes)}")
        layers: list[nn.Module] = []
        for number, p in enumerate(passes):
            if number:
                halving = Distil(tokens)
                tokens = halving.tokens
                layers.append(halving)
            layers.append(Pass(tokens, p))
        self.tokens = tokens
        self.passes = nn.Sequential(*layers)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BMD."""
        y_BMD: Tensor = self.passes(x_BND)
        return y_BMD
