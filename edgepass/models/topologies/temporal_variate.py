"""Passes along time and passes across variates in turn, each behind a gate that blends it with what came before.

    a = pass_1(x) along time;       z = g x + (1 - g) a,    g = sigmoid(W1 x + W2 a + b)
    v = pass_2(z) over variates;    y = g z + (1 - g) v,    with a gate of its own

A temporal pass sees a sequence of K tokens for each variate, a variate pass one of C tokens for each moment. The source
flattens time into one token of a variate before variates meet; here they meet moment by moment, so that a grid comes
out as it went in.

Shapes: B batch, C variates, K moments, N = C * K tokens, D channels; temporal passes see [B * C, K, D], variate passes
[B * K, C, D].
Source: Lan et al., "Gateformer: Advancing Multivariate Time Series Forecasting through Temporal and Variate-Wise
Attention with Gated Representations", 2025.
"""

from collections.abc import Sequence
from typing import cast

import msgspec
from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.config import PassConfig
from edgepass.models.parts import Choice, Tokens
from edgepass.models.passes import Pass

GRADE = 0
EXAMPLE = {"embedding": {"name": "patch_grid", "size": 4}}
"""Tokens on a grid of variates by time."""


class Settings(parts.Settings, frozen=True):
    """`merge` joins what a pass gives to what came before it."""

    merge: Choice = msgspec.field(default_factory=lambda: {"name": "gate"})


class Topology(nn.Module):
    """x_BND -> x_BND, over a grid of variates by time; the first of each two passes is the temporal one."""

    def __init__(self, tokens: Tokens, passes: Sequence[PassConfig], settings: Settings) -> None:
        super().__init__()
        parts.must(
            len(tokens.grid) == 2 and tokens.grid[0] == tokens.variates,
            f"it needs a grid of variates by time, not {tokens.grid}; embedding patch_grid gives one",
        )
        parts.must(
            len(passes) >= 2 and len(passes) % 2 == 0,
            f"it takes passes in pairs, one along time and one over variates; there are {len(passes)}",
        )
        self.tokens = tokens
        self.variates, self.moments = tokens.grid
        time = Tokens((self.moments,), tokens.dim, folded=self.variates * tokens.folded)
        variates = Tokens((self.variates,), tokens.dim, variates=self.variates)
        self.passes = nn.ModuleList(Pass((time, variates)[i % 2], p) for i, p in enumerate(passes))
        self.merges = nn.ModuleList(
            cast(nn.Module, parts.make("merges", settings.merge, tokens, tokens)) for _ in passes
        )

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        for index, (layer, merge) in enumerate(zip(self.passes, self.merges, strict=True)):
            x_BND = merge(x_BND, self._along_variates(layer, x_BND) if index % 2 else self._along_time(layer, x_BND))
        return x_BND

    def _along_time(self, layer: nn.Module, x_BND: Tensor) -> Tensor:
        y_SKD: Tensor = layer(x_BND.reshape(-1, self.moments, self.tokens.dim))
        return y_SKD.reshape(-1, self.tokens.count, self.tokens.dim)

    def _along_variates(self, layer: nn.Module, x_BND: Tensor) -> Tensor:
        shape = (-1, self.variates, self.moments, self.tokens.dim)
        x_SCD = x_BND.reshape(shape).transpose(1, 2).reshape(-1, self.variates, self.tokens.dim)
        y_BKCD = layer(x_SCD).reshape(-1, self.moments, self.variates, self.tokens.dim)
        y_BND: Tensor = y_BKCD.transpose(1, 2).reshape(-1, self.tokens.count, self.tokens.dim)
        return y_BND
