"""One pass that holds the attention heads of several: the same number of heads, without the chain of passes.

    y = pass(x),    its mixer with depth * H heads of the width that its H heads had

A stack of `depth` such passes has as many heads, and waits for each pass in turn.

Shapes: B batch, N tokens, D channels, H heads of E = D / H channels each; x and y are [B, N, D].
Source: Brown et al., "Wide Attention Is The Way Forward For Transformers?", 2022.
"""

from collections.abc import Sequence

import msgspec
from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.config import PassConfig
from edgepass.models.parts import Choice, Count, Tokens
from edgepass.models.passes import Pass

GRADE = 0
EXAMPLE = {"passes": [{"mixer": {"name": "local_attention"}, "channel_mixer": {"name": "feed_forward"}}]}
"""A single pass."""


class Settings(parts.Settings, frozen=True):
    """`depth` is how many passes the one pass stands for."""

    depth: Count = 2


class Topology(nn.Module):
    """x_BND -> x_BND."""

    def __init__(self, tokens: Tokens, passes: Sequence[PassConfig], settings: Settings) -> None:
        super().__init__()
        parts.must(
            len(passes) == 1,
            f"it widens one pass; there are {len(passes)}: configure one of them, and give their number as depth",
        )
        mixer = passes[0].mixer
        parts.must(mixer is not None, "it widens the attention of its pass, which has no mixer; give it one with heads")
        self.tokens = tokens
        wide = msgspec.structs.replace(passes[0], mixer=widened(mixer or {}, tokens.dim, settings.depth))
        self.layer = Pass(tokens, wide)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        y_BND: Tensor = self.layer(x_BND)
        return y_BND


def widened(mixer: Choice, dim: int, depth: int) -> Choice:
    """A mixer of `dim` channels with `depth` times its heads, each as wide as before.

    Raises InputError for a mixer that has no `heads`, or ties their width to the channels.
    """
    module, chosen = parts.settings("mixers", mixer)
    has = set(module.Settings.__struct_fields__)
    parts.must(
        {"heads", "head_dim"} <= has,
        f"mixer {mixer['name']!r} has no heads and head_dim of its own to widen; local_attention has",
    )
    width = chosen.head_dim or parts.head_dim(dim, chosen.heads)
    return mixer | {"heads": chosen.heads * depth, "head_dim": width}
