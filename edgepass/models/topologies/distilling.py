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

from edgepass import parts
from edgepass.models.cells import on, plane
from edgepass.models.config import PassConfig
from edgepass.models.passes import Pass
from edgepass.parts import Tokens

GRADE = 1


class Settings(parts.Settings, frozen=True):
    """There is nothing to set."""


class Halving(nn.Module):
    """x_BND -> x_BMD, half as long along time, or along both axes of a plane; `tokens` tells what comes out."""

    def __init__(self, tokens: Tokens) -> None:
        super().__init__()
        axes = plane(tokens)
        self.tokens = on(tokens, tuple(-(-n // 2) for n in axes))
        self.plane = (1, *axes)[-2:]
        self.kernel, self.padding = ((1, 3), (0, 1)) if self.plane[0] == 1 else ((3, 3), (1, 1))
        self.conv = nn.Conv2d(tokens.dim, tokens.dim, self.kernel, padding=self.padding)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BMD."""
        dim = self.tokens.dim
        x_SDRC = x_BND.reshape(-1, *self.plane, dim).permute(0, 3, 1, 2)
        y_SDRC = functional.elu(self.conv(x_SDRC))
        stride = (1, 2) if self.plane[0] == 1 else (2, 2)
        y_SDRC = functional.max_pool2d(y_SDRC, self.kernel, stride=stride, padding=self.padding)
        return y_SDRC.permute(0, 2, 3, 1).reshape(-1, self.tokens.count, dim)


class Topology(nn.Module):
    """x_BND -> x_BMD."""

    def __init__(self, tokens: Tokens, passes: Sequence[PassConfig], settings: Settings) -> None:
        super().__init__()
        parts.must(len(passes) >= 2, f"it halves between passes and needs at least 2; there is {len(passes)}")
        layers: list[nn.Module] = []
        for number, p in enumerate(passes):
            if number:
                halving = Halving(tokens)
                tokens = halving.tokens
                layers.append(halving)
            layers.append(Pass(tokens, p))
        self.tokens = tokens
        self.passes = nn.Sequential(*layers)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BMD."""
        y_BMD: Tensor = self.passes(x_BND)
        return y_BMD
