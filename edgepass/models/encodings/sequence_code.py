"""A token's index written out in digits, read by a small transformer, added.

    y_n = x_n + W E(d_1 .. d_k),    d the decimal digits of n along every axis of the grid, most significant first

Each digit is an embedding of its value and one of its place; E is what the transformer makes of a last, learned
token. The weights know nothing of how many tokens there are: a model of another length, of at most 10^digits tokens
an axis, takes them as they are. The encoder runs when the model is exported; what ships is one table per length.

Left out is the source's training by a contrastive and a distillation loss: they prepare indices beyond those trained
on, which a file of a fixed length does not have.

Shapes: B batch, N tokens, D channels, A axes, K digits of each, E width of the encoder; W is [D, E].
Source: Li et al., "SeqPE: Transformer with Sequential Position Encoding", 2025.
"""

from typing import Annotated

import msgspec
import torch
from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.baking import Baked
from edgepass.models.encodings import _grid
from edgepass.models.parts import Count, Tokens

GRADE = 0
BASE, HEADS = 10, 2


class Settings(parts.Settings, frozen=True):
    """`digits` of an index, which has 64 bits; `width` of the encoder, in heads of half of it; `layers` that it has."""

    digits: Annotated[int, msgspec.Meta(ge=1, le=18)] = 4
    width: Count = 16
    layers: Count = 2


class Encoding(nn.Module):
    """x_BND -> x_BND."""

    def __init__(self, tokens: Tokens, settings: Settings) -> None:
        super().__init__()
        self.position = Baked(Reader(tokens, settings))

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        y_BND: Tensor = x_BND + self.position()
        return y_BND


class Reader(nn.Module):
    """Gives the table W E, [N, D]."""

    digit_NK: Tensor

    def __init__(self, tokens: Tokens, settings: Settings) -> None:
        super().__init__()
        width = settings.width
        parts.must(width % HEADS == 0, f"width is {width}; it must be even, for {HEADS} heads")
        parts.must(
            max(tokens.grid) <= BASE**settings.digits,
            f"{settings.digits} digits are too few for {max(tokens.grid)} tokens; give more digits",
        )
        self.register_buffer("digit_NK", digits(tokens.grid, settings.digits), persistent=False)
        self.value = nn.Embedding(BASE, width)
        self.place = nn.Parameter(torch.empty(self.digit_NK.shape[1], width))
        self.last = nn.Parameter(torch.empty(1, 1, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, HEADS, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(width, tokens.dim, bias=False)
        for table in (self.value.weight, self.place, self.last):
            nn.init.normal_(table)
        nn.init.normal_(self.mix.weight, std=0.02)

    def forward(self) -> Tensor:
        """W E, [N, D]."""
        digit_NKE = self.value(self.digit_NK) + self.place
        read_NKE = torch.cat([digit_NKE, self.last.expand(len(digit_NKE), -1, -1)], dim=1)
        for layer in self.layers:
            read_NKE = layer(read_NKE)
        table_ND: Tensor = self.mix(self.norm(read_NKE[:, -1]))
        return table_ND


def digits(grid: tuple[int, ...], count: int) -> Tensor:
    """[N, axes * count] int64: the decimal digits of each token's index along each axis, most significant first."""
    index_NA = _grid.indices(grid).long()
    powers = BASE ** torch.arange(count - 1, -1, -1)
    return (index_NA[..., None] // powers % BASE).flatten(1)
