"""The same passes over and over, a few with a full span, the others with a local window.

    x_i = pass_i(x_(i-1)),    the window of pass i being the whole sequence for i in F, else `window`

Spans are blocks cut by reshape: a mask would silence far tokens and still compute them.

Shapes: B batch, N tokens, D channels; every x_i is [B, N, D]; F are numbers of passes, counted from 1.
Source: Zhang et al., "Efficient Long-Range Transformers: You Need to Attend More, but Not Necessarily at Every Layer",
2023.
"""

from collections.abc import Sequence

import msgspec
from torch import Tensor, nn

from edgepass import catalog
from edgepass.models import parts
from edgepass.models.config import PassConfig
from edgepass.models.parts import Count, Tokens
from edgepass.models.passes import Pass

GRADE = 1


class Settings(parts.Settings, frozen=True):
    """The configured passes, in turn, until there are `depth`; the span is full in every `full_every`-th.

    `full` lists the passes of full span instead, from 1. A local pass keeps the window of its mixer, unless there is
    one here.
    """

    depth: Count = 4
    full_every: Count = 4
    full: tuple[Count, ...] = ()
    window: Count | None = None


class Topology(nn.Module):
    """x_BND -> x_BND."""

    def __init__(self, tokens: Tokens, passes: Sequence[PassConfig], settings: Settings) -> None:
        super().__init__()
        parts.must(
            all(number <= settings.depth for number in settings.full),
            f"full lists pass {max(settings.full, default=0)}, and there are {settings.depth}; they count from 1",
        )
        self.tokens = tokens
        spans = [
            number in settings.full if settings.full else number % settings.full_every == 0
            for number in range(1, settings.depth + 1)
        ]
        windows = [tokens.count if full else settings.window for full in spans]
        self.passes = nn.Sequential(
            *(Pass(tokens, _windowed(passes[i % len(passes)], window)) for i, window in enumerate(windows))
        )

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        y_BND: Tensor = self.passes(x_BND)
        return y_BND


def _windowed(p: PassConfig, window: int | None) -> PassConfig:
    """The pass with another window, or with its own."""
    name = None if p.mixer is None else p.mixer["name"]
    parts.must(
        name is not None and _has_window(name),
        f"its passes need a mixer with a window, and {name or 'none'} is not one; "
        f"there is: {', '.join(filter(_has_window, catalog.names('mixers')))}",
    )
    mixer = p.mixer if window is None else {**(p.mixer or {}), "window": window}
    return msgspec.structs.replace(p, mixer=mixer)


def _has_window(name: str) -> bool:
    return "window" in catalog.load("mixers", name).Settings.__struct_fields__
