"""Several levels of a forecast at once, from a low one to a high one, that can never cross.

    median = u_m,    level above = the one below it + softplus(u),    level below = the one above it - softplus(u)

where u = W [x_1 ... x_K] + b over the K tokens of a variate, as the forecast head maps them, with an output for each
level. The running sums are one product with a constant matrix of ones, which cannot reorder levels even in int8: all
of them leave it on one grid; in float, equal ones may differ in the last bit. Until trained, levels lie log(2)
deviations of the window apart.

Trained by `pinball`, whose least value for a level p is where a share p of what happens lies below the forecast.

Shapes: B batch, Q levels, H horizon, C channels, S sequences of tokens, T = K * D values of a variate, R rows of
them; W is [Q * H, T].
Source: Wen et al., "A Multi-Horizon Quantile Recurrent Forecaster", 2017; pinball: Koenker and Bassett, "Regression
Quantiles", 1978.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec
import torch
from torch import Tensor
from torch.nn import functional

from edgepass.models import parts
from edgepass.models.heads import forecast
from edgepass.models.parts import Share, Tokens

GRADE = 1
FORECASTS = True
MEDIAN = 0.5

Level = Annotated[float, msgspec.Meta(gt=0, lt=1)]


class Settings(parts.Settings, frozen=True):
    """`levels` ascend, and 0.5 is one of them; `dropout` is the share of the token values hidden in training."""

    levels: tuple[Level, ...] = (0.1, MEDIAN, 0.9)
    dropout: Share = 0.0


class Head(forecast.Head):
    """x_SND -> y_BQHC, normalised."""

    sums_QQ: Tensor

    def __init__(self, tokens: Tokens, shape: tuple[int, ...], outputs: int, settings: Settings) -> None:
        levels = settings.levels
        told = ", ".join(map(str, levels)) or "none"
        parts.must(list(levels) == sorted(set(levels)), f"levels are {told}; let each be above the one before")
        parts.must(MEDIAN in levels, f"levels are {told}; 0.5, the forecast itself, must be one of them")
        super().__init__(tokens, shape, outputs * len(levels), forecast.Settings(dropout=settings.dropout))
        self.levels, self.horizon, self.middle = levels, outputs, levels.index(MEDIAN)
        self.register_buffer("sums_QQ", sums(len(levels), self.middle), persistent=False)

    def forward(self, x_SND: Tensor) -> Tensor:
        """x_SND -> y_BQHC."""
        levels, middle = len(self.levels), self.middle
        u_BXQ = self.projected(x_SND).reshape(-1, self.channels * self.horizon, levels)
        if levels > 1:
            sides = [functional.softplus(u_BXQ[..., :middle])] if middle else []
            sides.append(u_BXQ[..., middle : middle + 1])
            if middle + 1 < levels:
                sides.append(functional.softplus(u_BXQ[..., middle + 1 :]))
            u_BXQ = functional.linear(torch.cat(sides, dim=-1), self.sums_QQ)
        u_BCHQ: Tensor = u_BXQ.reshape(-1, self.channels, self.horizon, levels)
        return u_BCHQ.permute(0, 3, 2, 1)


def sums(levels: int, middle: int) -> Tensor:
    """[Q, Q] float32: level q is the median, plus or minus all steps from the median to it."""
    q_Q1, j_1Q = torch.arange(levels)[:, None], torch.arange(levels)[None, :]
    above, below = (middle < j_1Q) & (j_1Q <= q_Q1), (q_Q1 <= j_1Q) & (j_1Q < middle)
    return (above.float() - below.float()) + (j_1Q == middle).float()


def pinball(error_BQHC: Tensor, levels: Sequence[float]) -> Tensor:
    """Loss of what happened less what each level forecast: p e above the level, (p - 1) e below it. [B, Q, H, C]."""
    p_Q11 = error_BQHC.new_tensor(levels)[:, None, None]
    return torch.maximum(p_Q11 * error_BQHC, (p_Q11 - 1) * error_BQHC)
