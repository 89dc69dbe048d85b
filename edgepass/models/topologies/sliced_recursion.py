"""Each pass several times with the same weights, among groups of tokens that change from one time to the next.

    x <- nl_r(pass(x))  for r = 1, 2 ... times,  where  nl(x) = x + W2 gelu(W1 norm(x));  the last time has no nl

A pass sees one group at a time. The groups are runs of G neighbours at odd times and, at even ones, G tokens as far
apart as they can be, one from each stretch of the sequence: two times reach every stretch. The published code draws a
random permutation for this whenever it runs; this one is a transpose, so a file computes what the model did.

A variate is a sequence of its own. A sequence that its groups do not fill has zero tokens at its start, dropped at
the end; the groups are as even as can be, so that these are fewer than the groups.

Shapes: B batch, N tokens in row-major order, D channels, S sequences of K groups of G tokens; a pass sees
[S * K, G, D].
Source: Shen et al., "Sliced Recursive Transformer", 2022.
"""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from edgepass.models import parts
from edgepass.models.config import PassConfig
from edgepass.models.parts import Count, Positive, Tokens
from edgepass.models.passes import Pass

GRADE = 1


class Settings(parts.Settings, frozen=True):
    """`group` is the most tokens that a pass sees, `ratio` the hidden width between times, in multiples of channels."""

    recursions: Count = 2
    group: Count = 8
    ratio: Positive = 1.0


class Between(nn.Module):
    """The non-linear projection after each time but the last: x_BND -> x_BND."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim, hidden)
        self.narrow = nn.Linear(hidden, dim)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        y_BND: Tensor = x_BND + self.narrow(functional.gelu(self.widen(self.norm(x_BND))))
        return y_BND


class Topology(nn.Module):
    """x_BND -> x_BND."""

    def __init__(self, tokens: Tokens, passes: Sequence[PassConfig], settings: Settings) -> None:
        super().__init__()
        self.tokens = tokens
        self.length = tokens.count if len(tokens.grid) == 1 else tokens.count // tokens.variates
        self.groups = -(-self.length // settings.group)
        self.group = -(-self.length // self.groups)
        hidden = parts.hidden(tokens.dim, settings.ratio)
        self.passes = nn.ModuleList(Pass(Tokens((self.group,), tokens.dim), p) for p in passes)
        self.between = nn.ModuleList(
            nn.ModuleList(Between(tokens.dim, hidden) for _ in range(settings.recursions - 1)) for _ in passes
        )

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        dim, short = self.tokens.dim, self.groups * self.group - self.length
        x_SND = x_BND.reshape(-1, self.length, dim)
        if short:
            x_SND = functional.pad(x_SND, (0, 0, short, 0))
        for one, between in zip(self.passes, self.between, strict=True):
            x_SND = self._near(one, x_SND)
            for time, project in enumerate(cast(nn.ModuleList, between), start=1):
                x_SND = project(x_SND)
                x_SND = self._far(one, x_SND) if time % 2 else self._near(one, x_SND)
        return x_SND[:, short:].reshape(-1, self.tokens.count, dim)

    def _near(self, one: nn.Module, x_SND: Tensor) -> Tensor:
        """The pass within each run of neighbours."""
        dim = self.tokens.dim
        y_KGD: Tensor = one(x_SND.reshape(-1, self.group, dim))
        return y_KGD.reshape(-1, self.groups * self.group, dim)

    def _far(self, one: nn.Module, x_SND: Tensor) -> Tensor:
        """The pass within each set of tokens that are `groups` apart."""
        dim = self.tokens.dim
        x_SKGD = x_SND.reshape(-1, self.group, self.groups, dim).transpose(1, 2)
        y_KGD: Tensor = one(x_SKGD.reshape(-1, self.group, dim))
        y_SGKD = y_KGD.reshape(-1, self.groups, self.group, dim).transpose(1, 2)
        return y_SGKD.reshape(-1, self.groups * self.group, dim)
