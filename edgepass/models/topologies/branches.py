"""Passes side by side on the same tokens, merged one after another into the first.

    y = pass_1(x);    y = merge_i(y, pass_i(x)) for i = 2, 3 ...

Shapes: B batch, N tokens, D channels; every pass gives [B, N, D].
Source: Szegedy et al., "Going Deeper with Convolutions", 2015.
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


class Settings(parts.Settings, frozen=True):
    """`merge` joins each further branch to those before it."""

    merge: Choice = msgspec.field(default_factory=lambda: {"name": "add"})


class Topology(nn.Module):
    """x_BND -> x_BND."""

    def __init__(self, tokens: Tokens, passes: Sequence[PassConfig], settings: Settings) -> None:
        super().__init__()
        parts.must(len(passes) >= 2, f"it needs at least 2 passes, a branch each; there is {len(passes)}")
        self.tokens = tokens
        self.branches = nn.ModuleList(Pass(tokens, p) for p in passes)
        self.merges = nn.ModuleList(
            cast(nn.Module, parts.make("merges", settings.merge, tokens, tokens)) for _ in passes[1:]
        )

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        y_BND: Tensor = self.branches[0](x_BND)
        for branch, merge in zip(list(self.branches)[1:], self.merges, strict=True):
            y_BND = merge(y_BND, branch(x_BND))
        return y_BND
