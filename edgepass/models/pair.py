"""Two inputs of any kinds, such as a series and a picture: a trunk for each, their merge, then passes and a head.

    y = head(norm(passes(merge(trunk_1(x), trunk_2(z)))))

Static features beside a series are a pair too: the second trunk embeds `features` and has no passes.

Shapes: B batch, N and M tokens of the trunks, D and E widths; what the merge gives has the first trunk's shape.
Source: Allam Jr. and McEwen, "Paying Attention to Astronomical Transients: Introducing the Time-series Transformer
for Photometric Classification", 2023, for side features.
"""

from typing import cast

import msgspec
from torch import Tensor, nn

from edgepass import catalog
from edgepass.models import config as configs
from edgepass.models import parts
from edgepass.models.config import PassConfig, TrunkConfig
from edgepass.models.parts import Choice, Tokens
from edgepass.models.passformer import Trunk


class PairConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Two trunks and what follows them; `merge` takes the tokens of the second into those of the first."""

    name: str = "pair"
    first: TrunkConfig
    second: TrunkConfig
    merge: Choice = msgspec.field(default_factory=lambda: {"name": "cross_attend"})
    topology: Choice = msgspec.field(default_factory=lambda: {"name": "stack"})
    passes: tuple[PassConfig, ...] = ()
    head: Choice = msgspec.field(default_factory=lambda: {"name": "classify"})


def check(config: PairConfig) -> None:
    """Raise InputError, in one sentence, for the first thing in `config` that no data can mend."""
    with parts.inside(f"model {config.name!r}"):
        for which, trunk in (("first", config.first), ("second", config.second)):
            with parts.inside(f"{which} trunk"):
                configs.check_trunk(trunk)
        for kind, choice in (("merges", config.merge), ("topologies", config.topology), ("heads", config.head)):
            parts.settings(kind, choice)
        name = config.head["name"]
        compares = getattr(catalog.load("heads", name), "COMPARES", False)
        parts.must(not compares, f"head {name!r} is for models of one input, which it tells again; use classify")
        configs.check_passes(config.passes)


class Pair(nn.Module):
    """Maps inputs of two `shapes`, after the batch, to what its head gives. Raises InputError for what cannot be built.

    `outputs` is how many the head gives: classes, words.
    """

    def __init__(self, config: PairConfig, *, shapes: tuple[tuple[int, ...], tuple[int, ...]], outputs: int) -> None:
        super().__init__()
        check(config)
        with parts.inside(f"model {config.name!r}"):
            self.first = _trunk("first", config.first, shapes[0])
            self.second = _trunk("second", config.second, shapes[1])
            into = self.first.tokens
            self.merge = cast(nn.Module, parts.make("merges", config.merge, into, self.second.tokens))
            self.topology = cast(nn.Module, parts.make("topologies", config.topology, into, config.passes))
            tokens = cast(Tokens, self.topology.tokens)
            self.norm = nn.LayerNorm(tokens.dim)
            self.head = cast(nn.Module, parts.make("heads", config.head, tokens, shapes[0], outputs))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """[B, *shapes[0]] and [B, *shapes[1]] -> what the head gives."""
        x_BND: Tensor = self.merge(self.first.represent(x), self.second.represent(z))
        y: Tensor = self.head(self.norm(self.topology(x_BND)))
        return y


def _trunk(which: str, config: TrunkConfig, shape: tuple[int, ...]) -> Trunk:
    with parts.inside(f"{which} trunk"):
        trunk = Trunk(config, shape=shape)
        parts.must(
            trunk.tokens.folded == 1,
            f"each of its {trunk.tokens.folded} channels is a sequence of its own, which cannot meet the other trunk; "
            'give the patch embedding channels = "together", or take the patch_grid embedding',
        )
    return trunk
