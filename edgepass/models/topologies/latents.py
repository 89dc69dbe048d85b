"""Passes among the tokens of a group, and passes among a few latent tokens of all groups, in turn.

    x <- local_i(x),    z <- read_i(z, x),    z <- global_i(z),    x <- write_i(x, z)

Local passes see one group, and global passes see nothing but the latents, so no pass sees the whole sequence. Reading
and writing are merges within a group, cross-attention by default. The configured passes are local, global, local,
global. A latent starts as a learned vector plus the mean of its group, which spares the graph to repeat a constant
for each sample of a batch. Groups are cells: `group` neighbours in time, or `group` by `group` over a plane; the
latents of every variate and frame meet. Tokens that the group does not divide are filled up with zeros at their start.

Shapes: B batch, N tokens, D channels, M groups of I tokens and L latents, J = B * M; x is [J, I, D] and z [J, L, D],
or [B, M * L, D] where it is global.
Source: Chen and Li, "FIT: Far-reaching Interleaved Transformers", 2023.
"""

from collections.abc import Sequence
from typing import cast

import msgspec
import torch
from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.cells import Cells
from edgepass.models.config import PassConfig
from edgepass.models.parts import Choice, Count, Tokens
from edgepass.models.passes import Pass

GRADE = 1


class Settings(parts.Settings, frozen=True):
    """`group` is in tokens along an axis, `latents` how many a group has; `read` and `write` are merges."""

    group: Count = 8
    latents: Count = 2
    read: Choice = msgspec.field(default_factory=lambda: {"name": "cross_attend"})
    write: Choice = msgspec.field(default_factory=lambda: {"name": "cross_attend"})


class Topology(nn.Module):
    """x_BND -> x_BND."""

    def __init__(self, tokens: Tokens, passes: Sequence[PassConfig], settings: Settings) -> None:
        super().__init__()
        parts.must(
            len(passes) >= 2 and len(passes) % 2 == 0,
            f"its passes are local, global, local, global; it needs an even number of them, and has {len(passes)}",
        )
        self.tokens = tokens
        self.cells = Cells(tokens, settings.group)
        inside, latents = self.cells.inside, Tokens((settings.latents,), tokens.dim)
        self.all = Tokens((self.cells.coarse.count * settings.latents,), tokens.dim)
        self.latents_LD = nn.Parameter(torch.randn(settings.latents, tokens.dim) * 0.02)
        self.local = nn.ModuleList(Pass(inside, p) for p in passes[::2])
        self.everywhere = nn.ModuleList(Pass(self.all, p) for p in passes[1::2])
        self.read = nn.ModuleList(_merge(settings.read, latents, inside) for _ in self.local)
        self.write = nn.ModuleList(_merge(settings.write, inside, latents) for _ in self.local)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        dim = self.tokens.dim
        x_JID = self.cells.split(x_BND)
        z_JLD = self.cells.mean(x_BND).reshape(-1, 1, dim) + self.latents_LD
        for local, read, everywhere, write in zip(self.local, self.read, self.everywhere, self.write, strict=True):
            x_JID = local(x_JID)
            z_JLD = read(z_JLD, x_JID)
            z_JLD = everywhere(z_JLD.reshape(-1, self.all.count, dim)).reshape(-1, *self.latents_LD.shape)
            x_JID = write(x_JID, z_JLD)
        return self.cells.join(x_JID)


def _merge(choice: Choice, into: Tokens, other: Tokens) -> nn.Module:
    return cast(nn.Module, parts.make("merges", choice, into, other))
