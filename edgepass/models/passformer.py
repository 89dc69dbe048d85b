"""The Passformer: embedding, encoding, passes in their topology, norm and head, each a part that its config names.

Shapes: B batch, S sequences of tokens (B, or B times the channels that are apart), N tokens, D width.
"""

from typing import Protocol, cast

from torch import Tensor, nn

from edgepass import catalog
from edgepass.errors import InputError
from edgepass.models import parts
from edgepass.models.config import Config, TrunkConfig
from edgepass.models.parts import Tokens


class Forecasts(Protocol):
    """What a head offers that forecasts."""

    def start_at_zero(self) -> None:
        """Forecast nothing until trained."""
        ...


class Trunk(nn.Module):
    """Maps an input of `shape`, after the batch, to tokens. Raises InputError for what cannot be built.

    `tokens` tells what the tokens are.
    """

    def __init__(self, config: TrunkConfig, *, shape: tuple[int, ...]) -> None:
        super().__init__()
        takes = catalog.load("embeddings", config.embedding["name"]).SHAPE
        if len(takes) != len(shape):
            raise InputError(
                f"embedding {config.embedding['name']!r} takes [{', '.join(takes)}], not an input of {len(shape)} axes"
            )
        self.shape = shape
        self.embedding = cast(nn.Module, parts.make("embeddings", config.embedding, shape, config.dim))
        tokens = cast(Tokens, self.embedding.tokens)
        self.encoding = cast(nn.Module, parts.make("encodings", config.encoding, tokens))
        self.topology = cast(nn.Module, parts.make("topologies", config.topology, tokens, config.passes))
        self.tokens = cast(Tokens, self.topology.tokens)

    def represent(self, x: Tensor) -> Tensor:
        """[B, *shape] -> the tokens after the passes, x_SND."""
        x_SND: Tensor = self.topology(self.encoding(self.embedding(x)))
        return x_SND


class Passformer(Trunk):
    """Maps an input of `shape`, after the batch, to what its head gives. Raises InputError for what cannot be built.

    `outputs` is how many the head gives: rows to forecast, classes, words.
    """

    def __init__(self, config: Config, *, shape: tuple[int, ...], outputs: int) -> None:
        super().__init__(config, shape=shape)
        self.config, self.outputs = config, outputs
        self.norm = nn.LayerNorm(self.tokens.dim)
        self.head = cast(nn.Module, parts.make("heads", config.head, self.tokens, shape, outputs))
        self.compares = bool(getattr(catalog.load("heads", config.head["name"]), "COMPARES", False))

    def forward(self, x: Tensor) -> Tensor:
        """[B, *shape] -> what the head gives."""
        x_SND = self.norm(self.represent(x))
        y: Tensor = self.head(x_SND, x) if self.compares else self.head(x_SND)
        return y

    def start_at_zero(self) -> None:
        """Give nothing but zeros until trained."""
        cast(Forecasts, self.head).start_at_zero()

    def parameter_count(self) -> int:
        """Number of trained values."""
        return sum(p.numel() for p in self.parameters())
