"""Passes one after another: a single pass for the lowest latency, or more of them for accuracy.

    x_i = pass_i(x_(i-1))

What pass i gives is a representation like any other, so the stack may be cut after any pass. Training can be told to
cut it after a pass drawn at random, each step anew, so that what follows the stack learns to follow any pass.

Shapes: B batch, N tokens, D channels; every x_i is [B, N, D].
Sources: Vaswani et al., "Attention Is All You Need", 2017; cuts in training: Fan et al., "Reducing Transformer Depth on
Demand with Structured Dropout", 2020, where passes are left out one by one.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.config import PassConfig
from edgepass.models.parts import Count, Tokens
from edgepass.models.passes import Pass

GRADE = 0


class Settings(parts.Settings, frozen=True):
    """The configured passes come `repeat` times over, each time with weights of their own.

    `anytime` trains the stack to be cut after any of them.
    """

    repeat: Count = 1
    anytime: bool = False


class Topology(nn.Module):
    """x_BND -> x_BND."""

    def __init__(self, tokens: Tokens, passes: Sequence[PassConfig], settings: Settings) -> None:
        super().__init__()
        self.tokens, self.anytime = tokens, settings.anytime
        self.passes = nn.Sequential(*(Pass(tokens, p) for _ in range(settings.repeat) for p in passes))

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        passes: nn.Module = self.passes
        if self.training and self.anytime and len(self.passes):  # asked here, so that no exported graph knows of it
            passes = self.passes[: 1 + int(torch.randint(len(self.passes), ()))]
        y_BND: Tensor = passes(x_BND)
        return y_BND
