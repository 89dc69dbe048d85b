"""How well the levels of a forecast are kept: the share of what happened below each, and its pinball loss.

Shapes: N windows, L lookback, Q levels, H horizon, C columns; everything is in scaled units.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgepass.series.baselines import CHUNK, Forecast
from edgepass.series.windows import Floats


@dataclass(frozen=True, kw_only=True)
class LevelScore:
    """Over windows, horizon and columns. A level of 0.9 is kept where `coverage` is 0.9 too."""

    level: float
    coverage: float
    """Share of what happened that was no higher than the level's forecast."""
    pinball: float


def scores(
    levels: Sequence[float], forecast: Forecast, inputs_NLC: Floats, targets_NHC: Floats
) -> tuple[LevelScore, ...]:
    """Judge `forecast`, x_NLC -> y_NQHC, on all windows."""
    below_Q, loss_Q = np.zeros(len(levels)), np.zeros(len(levels))
    for start in range(0, len(inputs_NLC), CHUNK):
        part = slice(start, start + CHUNK)
        missed_NQHC = targets_NHC[part, None] - np.asarray(forecast(inputs_NLC[part]), np.float64)
        below_Q += (missed_NQHC <= 0).sum(axis=(0, 2, 3))
        loss_Q += pinball(missed_NQHC, levels).sum(axis=(0, 2, 3))
    return tuple(
        LevelScore(level=level, coverage=float(below), pinball=float(loss))
        for level, below, loss in zip(levels, below_Q / targets_NHC.size, loss_Q / targets_NHC.size, strict=True)
    )


def median(forecast: Floats, levels: Sequence[float]) -> Floats:
    """[..., Q, H, C] -> [..., H, C]: the forecast itself, the level 0.5 that every such model has."""
    return forecast[..., list(levels).index(0.5), :, :]


def pinball(missed: Floats, levels: Sequence[float]) -> NDArray[np.float64]:
    """Loss of what happened less the forecast, [..., Q, H, C]: p times what lies above a level p, 1 - p of the rest."""
    p_Q11 = np.asarray(levels, np.float64)[:, None, None]
    loss: NDArray[np.float64] = np.maximum(p_Q11 * missed, (p_Q11 - 1) * missed)
    return loss
