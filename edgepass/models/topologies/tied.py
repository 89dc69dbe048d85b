"""The same passes at every depth, each linear layer with a low-rank correction of its own for every depth.

    x_d = pass(x_(d-1)),    with W + B_d A_d for each W of its linear layers at depth d

W x + B_d (A_d x) is computed unmerged: merged, every depth would have a matrix of its own and a file would hold them
all. B_d starts at 0, so the start is plain tying.

Shapes: B batch, N tokens, D channels, R rank; every x_d is [B, N, D]; W is [O, I], A_d is [R, I], B_d is [O, R].
Source: Bae et al., "Relaxed Recursive Transformers: Effective Parameter Sharing with Layer-wise LoRA", 2025.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.config import PassConfig
from edgepass.models.parts import Count, Tokens
from edgepass.models.passes import Pass

GRADE = 1


class Settings(parts.Settings, frozen=True):
    """The configured passes come `depth` times, with corrections of `rank`; 0 ties them without any."""

    depth: Count = 2
    rank: Annotated[int, msgspec.Meta(ge=0)] = 2


class Topology(nn.Module):
    """x_BND -> x_BND."""

    def __init__(self, tokens: Tokens, passes: Sequence[PassConfig], settings: Settings) -> None:
        super().__init__()
        self.tokens, self.depth = tokens, settings.depth
        self.passes = nn.Sequential(*(Pass(tokens, p) for p in passes))
        if settings.rank:
            relax(self.passes, settings.depth, settings.rank)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        relaxed = [module for module in self.passes.modules() if isinstance(module, Relaxed)]
        for depth in range(self.depth):
            for module in relaxed:
                module.at = depth
            x_BND = self.passes(x_BND)
        return x_BND


class Relaxed(nn.Linear):
    """A linear layer that is used at several depths, with a low-rank correction for each; `at` says at which it is."""

    def __init__(self, linear: nn.Linear, depth: int, rank: int) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        rank, self.at = min(rank, self.in_features, self.out_features), 0
        self.down = nn.ModuleList(nn.Linear(self.in_features, rank, bias=False) for _ in range(depth))
        self.up = nn.ModuleList(zero(nn.Linear(rank, self.out_features, bias=False)) for _ in range(depth))

    def forward(self, input: Tensor) -> Tensor:  # as torch names it
        """[..., I] -> [..., O]."""
        y: Tensor = super().forward(input) + self.up[self.at](self.down[self.at](input))
        return y


def zero(linear: nn.Linear) -> nn.Linear:
    """The layer, giving 0 until trained."""
    nn.init.zeros_(linear.weight)
    return linear


def relax(module: nn.Module, depth: int, rank: int) -> None:
    """Replace every linear layer inside `module` by one with corrections."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                setattr(parent, name, Relaxed(child, depth, rank))
