"""Hierarchies of eight channels in float64, and what their tests count."""

from typing import Any

import torch
from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.config import PassConfig
from edgepass.models.parts import Tokens

D = 8
FEED = PassConfig(channel_mixer={"name": "feed_forward"})
NAMES = (
    "distilling",
    "hierarchy",
    "latents",
    "mixed_spans",
    "nested",
    "sliced_recursion",
    "token_merging",
    "two_resolutions",
)
SERIES, VARIATES, VIDEO = Tokens((23,), D), Tokens((3, 23), D, variates=3), Tokens((2, 5, 7), D)
INVERTED = Tokens((7,), D, variates=7)
CROSS = {"name": "cross_attend", "heads": 2}
HEADS = {"latents": {"read": CROSS, "write": CROSS}, "two_resolutions": {"cross": CROSS}}
"""Settings that fit 8 channels."""


def local(window: int) -> PassConfig:
    """A pass of attention in blocks."""
    return PassConfig(mixer={"name": "local_attention", "heads": 2, "window": window}, channel_mixer=FEED.channel_mixer)


def make(name: str, tokens: Tokens, *passes: PassConfig, **chosen: Any) -> Any:
    """A topology in float64; it does nothing where its passes are Passes of scale 0."""
    return parts.make("topologies", {"name": name, **HEADS.get(name, {}), **chosen}, tokens, passes).double()


def values(*shape: int) -> Tensor:
    """Standard normal float64."""
    return torch.randn(*shape, dtype=torch.float64)


def felt(module: nn.Module, x_BND: Tensor, token: int) -> list[int]:
    """The tokens that change with one."""
    z_BND = x_BND.clone()
    z_BND[:, token] += values(D)
    changed_N = (module(x_BND) != module(z_BND)).any(dim=2).any(dim=0)
    return [token for token, changed in enumerate(changed_N) if changed]


def windows(passes: Any) -> list[int]:
    """Of the mixer of each pass."""
    return [p.mixer.window for p in passes]


def zero(module: nn.Module) -> None:
    """All its parameters, so that it adds nothing."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()


def members(tokens: Tokens, size: int) -> list[list[int]]:
    """The tokens of each cell, by counting: cells end where their axis ends, and the first may be short."""
    apart = tokens.count // tokens.grid[-1] if tokens.variates > 1 or len(tokens.grid) == 1 else tokens.grid[0]
    rows = tokens.count // apart // tokens.grid[-1]

    def runs(length: int) -> list[range]:
        width = min(size, length)
        stops = range(length, 0, -width)
        return [range(max(0, stop - width), stop) for stop in reversed(stops)]

    number = torch.arange(tokens.count).reshape(apart, rows, -1)
    return [
        [int(number[outer, r, c]) for r in run for c in across]
        for outer in range(apart)
        for run in runs(rows)
        for across in runs(tokens.grid[-1])
    ]
