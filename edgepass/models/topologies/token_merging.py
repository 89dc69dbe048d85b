"""Passes on a fixed number of merged tokens, to which every token is softly assigned.

    G = softmax(x W + b),    z = (P / N) G^T x,    y = x + G (passes(z) - z)

What goes where depends on the input, and yet every size is fixed: no sort, no gather. Each row of G sums to 1, so a
token takes back its share of what the passes changed, and passes that change nothing leave all tokens as they were.
P / N makes a merged token a mean, not a sum that would outgrow half precision. A variate is a sequence of its own.

Shapes: B batch, N tokens of a sequence, D channels, P merged tokens; G is [B, N, P], z [B, P, D].
Source: Wang and Yang, "Efficient Visual Transformer by Learnable Token Merging", 2024.
"""

from collections.abc import Sequence

import msgspec
import torch
from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.config import PassConfig
from edgepass.models.parts import Count, Tokens
from edgepass.models.passes import Pass

GRADE = 1


class Settings(parts.Settings, frozen=True):
    """`merged` is P, for each sequence. Without `unmerge` the merged tokens themselves come out."""

    merged: Count = 8
    unmerge: bool = True


class Topology(nn.Module):
    """x_BND -> x_BND, or z_BPD."""

    def __init__(self, tokens: Tokens, passes: Sequence[PassConfig], settings: Settings) -> None:
        super().__init__()
        parts.must(
            len(tokens.grid) > 1 or tokens.variates == 1,
            f"each of the {tokens.count} tokens is a whole variate, which nothing can be merged with; "
            "an embedding such as patch or patch_grid gives a variate several tokens",
        )
        self.length = tokens.count // tokens.variates
        self.kept = min(settings.merged, self.length)
        outer = tokens.grid[:1] if tokens.variates > 1 else ()
        self.merged = msgspec.structs.replace(tokens, grid=(*outer, self.kept))
        self.tokens = tokens if settings.unmerge else self.merged
        self.unmerge = settings.unmerge
        self.assign = nn.Linear(tokens.dim, self.kept)
        self.passes = nn.Sequential(*(Pass(self.merged, p) for p in passes))

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND, or z_BPD."""
        dim = self.tokens.dim
        x_SND = x_BND.reshape(-1, self.length, dim)
        g_SNP = self.assignment(x_SND)
        z_SPD = torch.bmm((g_SNP * (self.kept / self.length)).transpose(1, 2), x_SND)
        z_BMD = z_SPD.reshape(-1, self.merged.count, dim)
        y_BMD: Tensor = self.passes(z_BMD)
        if not self.unmerge:
            return y_BMD
        changed_SPD = (y_BMD - z_BMD).reshape(-1, self.kept, dim)
        return (x_SND + torch.bmm(g_SNP, changed_SPD)).reshape(-1, self.tokens.count, dim)

    def assignment(self, x_SND: Tensor) -> Tensor:
        """The share of each token that each merged token takes, g_SNP."""
        return torch.softmax(self.assign(x_SND), dim=-1)
