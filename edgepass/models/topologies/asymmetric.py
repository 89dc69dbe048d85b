"""Stages with ever fewer tokens: cheap passes while there are many, attention once there are few.

    x = passes of stage 1 (x);    x = conv(x) with a stride of 2, then passes of stage 2 (x);    and so on

Between two stages a convolution over three neighbours merges tokens by two: along time in a series, along rows and
columns in a picture or in each frame of a video. Variates and frames are never merged. Which pass is convolutional and
which is attention is the configuration's to say.

Shapes: B batch, N tokens of D channels come in, M of E go out; an axis of n tokens becomes ceil(n / 2) per merge.
Source: Kag et al., "AsCAN: Asymmetric Convolution-Attention Networks for Efficient Recognition and Generation", 2024.
"""

from collections.abc import Sequence
from itertools import accumulate

from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.config import PassConfig
from edgepass.models.halving import Halving
from edgepass.models.parts import Count, Positive, Tokens
from edgepass.models.passes import Pass

GRADE = 0


class Settings(parts.Settings, frozen=True):
    """`depths` is how many passes each stage takes; without it two stages share them, the later one the odd one.

    `widen` times the channels go from a stage to the next.
    """

    depths: tuple[Count, ...] | None = None
    widen: Positive = 1.0


class Topology(nn.Module):
    """x_BND -> x_BME."""

    def __init__(self, tokens: Tokens, passes: Sequence[PassConfig], settings: Settings) -> None:
        super().__init__()
        depths = settings.depths or (len(passes) // 2, (len(passes) + 1) // 2)
        parts.must(
            min(depths) >= 1 and sum(depths) == len(passes),
            f"{len(passes)} passes cannot be dealt to stages of {' + '.join(map(str, depths))}; "
            "give depths that add up to the passes, 1 or more for each stage",
        )
        self.merges, self.stages = nn.ModuleList(), nn.ModuleList()
        for number, stop in enumerate(accumulate(depths)):
            if number:
                merge = Halve(tokens, parts.hidden(tokens.dim, settings.widen))
                self.merges.append(merge)
                tokens = merge.tokens
            self.stages.append(nn.Sequential(*(Pass(tokens, p) for p in passes[stop - depths[number] : stop])))
        self.tokens = tokens

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BME."""
        x_BND = self.stages[0](x_BND)
        for merge, stage in zip(self.merges, list(self.stages)[1:], strict=True):
            x_BND = stage(merge(x_BND))
        return x_BND


class Halve(Halving):
    """x_BND -> x_BME."""

    def __init__(self, tokens: Tokens, dim: int) -> None:
        super().__init__(tokens, dim)
        self.conv = nn.Conv2d(tokens.dim, dim, self.kernel, self.stride, self.padding)

    def halved(self, x_SDRC: Tensor) -> Tensor:
        """A map of three neighbours at every second token."""
        y_SERC: Tensor = self.conv(x_SDRC)
        return y_SERC
