"""Every part of every pass side by side: no part waits for another.

    y = x + sum_i f_i(n),    n = norm(x),    over all mixers, gates and channel mixers f_i

It is the first order of what a stack of residual passes computes. All branches read one norm, so those of a kind are
one wide branch in disguise, and `collapsed` takes the disguise off: side by side W2_i gelu(W1_i n) is one feed-forward
part with the rows of all W1 and the columns of all W2, and heads of side-by-side attention are heads of one.

Shapes: B batch, N tokens, D channels; x, n and every f_i(n) are [B, N, D].
Source: Bermeitinger et al., "Make Deep Networks Shallow Again", 2023.
"""

import copy
from collections.abc import Iterator, Sequence

import msgspec
from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.config import PassConfig
from edgepass.models.parts import Tokens
from edgepass.models.passes import Pass
from edgepass.models.topologies import _collapse

GRADE = 0


class Settings(parts.Settings, frozen=True):
    """There is nothing to set."""


class Topology(nn.Module):
    """x_BND -> x_BND. `passes` are its branches, a part each: with a model's other settings they configure it again."""

    def __init__(self, tokens: Tokens, passes: Sequence[PassConfig], settings: Settings) -> None:
        super().__init__()
        parts.must(len(passes) >= 1, "it needs at least 1 pass")
        parts.must(
            len({(p.norm, p.skip) for p in passes}) == 1,
            "its passes share one norm and one skip, so they must agree on them; set norm and skip alike in all",
        )
        self.tokens, self.skip = tokens, passes[0].skip
        self.passes = tuple(part for p in passes for part in apart(p))
        self.norm = nn.LayerNorm(tokens.dim) if passes[0].norm else None
        self.branches = nn.ModuleList(Pass(tokens, bare(p)) for p in self.passes)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        n_BND = x_BND if self.norm is None else self.norm(x_BND)
        y_BND: Tensor = self.branches[0](n_BND)
        for branch in list(self.branches)[1:]:
            y_BND = y_BND + branch(n_BND)
        return x_BND + y_BND if self.skip else y_BND

    def collapsed(self) -> "Topology":
        """The same function with fewer, wider branches: one for all of a kind whose settings let them be stacked.

        What has a gate, or a part that cannot be stacked, stays a branch of its own. Scales are folded into stacks.
        """
        passes: list[PassConfig] = []
        branches: list[nn.Module] = []
        for group in _collapse.groups(self.passes, self.tokens.dim):
            if len(group) == 1:
                passes.append(self.passes[group[0]])
                branches.append(copy.deepcopy(self.branches[group[0]]))
                continue
            passes.append(_collapse.config([self.passes[i] for i in group], self.tokens.dim))
            branch = Pass(self.tokens, bare(passes[-1]))
            branch.load_state_dict(_collapse.weights([self.branches[i] for i in group]), assign=True)
            branches.append(branch.train(self.training))
        other = copy.deepcopy(self)
        other.passes, other.branches = tuple(passes), nn.ModuleList(branches)
        return other


def apart(p: PassConfig) -> Iterator[PassConfig]:
    """The parts of a pass, each as a pass of its own: the mixer with a gate of values, then the channel mixer."""
    if p.mixer is not None or p.gate == "values":
        yield msgspec.structs.replace(p, channel_mixer=None)
    if p.channel_mixer is not None:
        yield msgspec.structs.replace(p, mixer=None, gate=None if p.gate == "values" else p.gate)


def bare(p: PassConfig) -> PassConfig:
    """A pass without the norm and skip that all branches share."""
    return msgspec.structs.replace(p, norm=False, skip=False)
