"""A fine and a coarse stream, each with passes and a summary token that alone looks at the other stream.

    f <- fine_i(f),    c <- coarse_i(c)
    f_0, c_0 <- cross_i(f_0, [f_0 c_1 ... c_M]), cross_i'(c_0, [c_0 f_1 ... f_N])
    y = merge(f + f_0, spread(c + c_0))    at the end, over the tokens without their summaries

One query over the other stream costs as much as it has tokens, not their square. A coarse token is a linear map of
`factor` neighbours, or `factor` by `factor` over a plane. The configured passes are fine, coarse, fine, coarse. The
paper classifies from the two summaries; here each is added to its stream, so that every head fits. A variate is a
sequence of its own; fine tokens that the factor does not divide are filled up with zeros at their start.

Shapes: B batch, N tokens, D channels, S sequences of n fine and m coarse tokens; f is [S, 1 + n, D], c [S, 1 + m, D].
Source: Chen et al., "CrossViT: Cross-Attention Multi-Scale Vision Transformer for Image Classification", 2021.
"""

from collections.abc import Sequence
from typing import cast

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepass.models import parts
from edgepass.models.cells import Cells
from edgepass.models.config import PassConfig
from edgepass.models.parts import Choice, Count, Tokens
from edgepass.models.passes import Pass

GRADE = 1


class Settings(parts.Settings, frozen=True):
    """`factor` is in tokens along an axis; `cross` lets a summary look, `merge` joins the streams at the end."""

    factor: Count = 4
    cross: Choice = msgspec.field(default_factory=lambda: {"name": "cross_attend"})
    merge: Choice = msgspec.field(default_factory=lambda: {"name": "add"})


class Summary(nn.Module):
    """Makes a learned token of the first, which `_led` put there: [S, 1 + N, D] -> [S, 1 + N, D]."""

    first_N1: Tensor

    def __init__(self, tokens: Tokens) -> None:
        super().__init__()
        self.summary_1D = nn.Parameter(torch.randn(1, tokens.dim) * 0.02)
        self.register_buffer("first_N1", torch.eye(tokens.count, 1), persistent=False)

    def forward(self, x_SND: Tensor) -> Tensor:
        """[S, 1 + N, D] -> [S, 1 + N, D]."""
        # A sum with what is zero but in the first row, because a learned token has no batch to be joined by.
        return x_SND + self.first_N1 * self.summary_1D


class Topology(nn.Module):
    """x_BND -> x_BND."""

    def __init__(self, tokens: Tokens, passes: Sequence[PassConfig], settings: Settings) -> None:
        super().__init__()
        parts.must(
            len(passes) >= 2 and len(passes) % 2 == 0,
            f"its passes are fine, coarse, fine, coarse; it needs an even number of them, and has {len(passes)}",
        )
        self.tokens = tokens
        self.cells = Cells(tokens, settings.factor)
        dim, inside, coarse = tokens.dim, self.cells.inside, self.cells.coarse
        one = Tokens((1,), dim)
        fine, rough = (Tokens((1 + t.count // t.variates,), dim) for t in (tokens, coarse))
        self.coarsen = nn.Linear(inside.count * dim, dim)
        self.begin_fine, self.begin_coarse = Summary(fine), Summary(rough)
        self.fine = nn.ModuleList(Pass(fine, p) for p in passes[::2])
        self.coarse = nn.ModuleList(Pass(rough, p) for p in passes[1::2])
        self.into_fine = nn.ModuleList(_merge(settings.cross, one, rough) for _ in self.fine)
        self.into_coarse = nn.ModuleList(_merge(settings.cross, one, fine) for _ in self.fine)
        self.merge = _merge(settings.merge, tokens, tokens)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        dim, fine, coarse = self.tokens.dim, self.tokens, self.cells.coarse
        f = self.begin_fine(_led(x_BND.reshape(-1, fine.count // fine.variates, dim)))
        # Led before it is mapped, because ExecuTorch's int8 files do not load where padding follows a linear map.
        cells = self.cells.split(x_BND).reshape(-1, coarse.count // coarse.variates, self.coarsen.in_features)
        c = self.begin_coarse(self.coarsen(_led(cells)))
        both = zip(self.fine, self.coarse, self.into_fine, self.into_coarse, strict=True)
        for fine_pass, coarse_pass, into_fine, into_coarse in both:
            f, c = fine_pass(f), coarse_pass(c)
            f_0, c_0 = f[:, :1], c[:, :1]
            first_f, first_c = self.begin_fine.first_N1, self.begin_coarse.first_N1
            # Sums, not joins, change a first row: int8 tensors that are joined need one scale, and converters differ.
            f_next = f + first_f * (into_fine(f_0, c + first_c * (f_0 - c_0)) - f_0)
            c = c + first_c * (into_coarse(c_0, f + first_f * (c_0 - f_0)) - c_0)
            f = f_next
        f_BND = (f[:, 1:] + f[:, :1]).reshape(-1, fine.count, dim)
        c_BMD = (c[:, 1:] + c[:, :1]).reshape(-1, coarse.count, dim)
        y_BND: Tensor = self.merge(f_BND, self.cells.spread(c_BMD))
        return y_BND


def _led(x_SND: Tensor) -> Tensor:
    """A token of zeros put first: x_SND -> [S, 1 + N, D]."""
    return functional.pad(x_SND, (0, 0, 1, 0))


def _merge(choice: Choice, into: Tokens, other: Tokens) -> nn.Module:
    return cast(nn.Module, parts.make("merges", choice, into, other))
