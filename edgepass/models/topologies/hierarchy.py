"""Passes at several scales of time or space, each coarser one merged back into the finer.

    x_0 = passes_0(x),    x_(s+1) = passes_(s+1)(pool(x_s));    then, from the coarsest,
    y_s = merge_s(x_s, spread(y_(s+1))),    y = y_0

Pooling takes the mean of `factor` tokens in time, or of `factor` by `factor` over a plane; variates and frames stay
apart. Of n tokens along an axis ceil(n / factor) are left, and the mean of a cell at its start that is not full is
over the tokens that it has; so any number of tokens will do, and as many come out as came in.

Shapes: B batch, N tokens, D channels; x_0 and y are [B, N, D], x_s has fewer tokens.
Sources: Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015; Lin et al.,
"Feature Pyramid Networks for Object Detection", 2017.
"""

from collections.abc import Sequence
from typing import cast

import msgspec
from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.cells import Cells
from edgepass.models.config import PassConfig
from edgepass.models.parts import Choice, Count, Tokens
from edgepass.models.passes import Pass

GRADE = 1


class Settings(parts.Settings, frozen=True):
    """`factor` is in tokens along an axis. The passes fill the scales from the finest on, `per_scale` of them each.

    Without `spread` the merge is given the coarser tokens as they are, which only some merges take.
    """

    factor: Count = 2
    per_scale: Count = 1
    merge: Choice = msgspec.field(default_factory=lambda: {"name": "add"})
    spread: bool = True


class Topology(nn.Module):
    """x_BND -> x_BND."""

    def __init__(self, tokens: Tokens, passes: Sequence[PassConfig], settings: Settings) -> None:
        super().__init__()
        per, count = settings.per_scale, len(passes)
        parts.must(
            count % per == 0 and count // per >= 2,
            f"it needs {per} for each of at least 2 scales; {count} passes do not give that",
        )
        self.tokens, self.spread = tokens, settings.spread
        self.cells, self.merges, self.scales = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for first in range(0, count, per):
            if first:
                cells = Cells(tokens, settings.factor)
                other = tokens if settings.spread else cells.coarse
                self.cells.append(cells)
                self.merges.append(cast(nn.Module, parts.make("merges", settings.merge, tokens, other)))
                tokens = cells.coarse
            self.scales.append(nn.Sequential(*(Pass(tokens, p) for p in passes[first : first + per])))

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        cells = [cast(Cells, c) for c in self.cells]
        scales: list[Tensor] = [self.scales[0](x_BND)]
        for cut, passes in zip(cells, list(self.scales)[1:], strict=True):
            scales.append(passes(cut.mean(scales[-1])))
        y = scales.pop()
        for cut, merge in zip(reversed(cells), reversed(list(self.merges)), strict=True):
            y = merge(scales.pop(), cut.spread(y) if self.spread else y)
        return y
