"""Passes among the small tokens inside each outer token, and passes among the outer tokens, in turn.

    y <- inner_i(y),    z <- outer_i(z + W_i [y_1 ... y_I] + b_i),    z = 0 at first

The tokens that come in are the small ones, so the embedding is given a fine size. `group` neighbours of them, or
`group` by `group` over a plane, lie inside one outer token, and the outer tokens come out. The configured passes are
inner, outer, inner, outer. Small tokens that the group does not divide are filled up with zeros at their start.

Shapes: B batch, N small tokens, M outer tokens, I small tokens in one, D and E channels of them, J = B * M; y is
[J, I, D] and z [B, M, E].
Source: Han et al., "Transformer in Transformer", 2021.
"""

from collections.abc import Sequence

import msgspec
from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.cells import Cells
from edgepass.models.config import PassConfig
from edgepass.models.parts import Count, Tokens
from edgepass.models.passes import Pass

GRADE = 1


class Settings(parts.Settings, frozen=True):
    """`group` is in tokens along an axis; `dim`, the channels of an outer token, is as many as come in if left out."""

    group: Count = 4
    dim: Count | None = None


class Topology(nn.Module):
    """x_BND -> z_BME."""

    def __init__(self, tokens: Tokens, passes: Sequence[PassConfig], settings: Settings) -> None:
        super().__init__()
        parts.must(
            len(passes) >= 2 and len(passes) % 2 == 0,
            f"its passes are inner, outer, inner, outer; it needs an even number of them, and has {len(passes)}",
        )
        self.cells = Cells(tokens, settings.group)
        inside = self.cells.inside
        self.tokens = msgspec.structs.replace(self.cells.coarse, dim=settings.dim or tokens.dim)
        self.inner = nn.ModuleList(Pass(inside, p) for p in passes[::2])
        self.outer = nn.ModuleList(Pass(self.tokens, p) for p in passes[1::2])
        self.lift = nn.ModuleList(nn.Linear(inside.count * inside.dim, self.tokens.dim) for _ in self.inner)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> z_BME."""
        y_JID = self.cells.split(x_BND)
        z_BME: Tensor | None = None
        for inner, lift, outer in zip(self.inner, self.lift, self.outer, strict=True):
            y_JID = inner(y_JID)
            lifted_BME = lift(y_JID.reshape(-1, self.tokens.count, lift.in_features))
            z_BME = outer(lifted_BME if z_BME is None else z_BME + lifted_BME)
        assert z_BME is not None
        return z_BME
