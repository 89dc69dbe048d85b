"""Forecasts that need no training, and the metric that judges them and every model alike.

Shapes: N windows, L lookback, H horizon, C columns; everything is in scaled units.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgepass.series.windows import Floats

CHUNK = 2048
"""Windows at a time: bounds memory, and keeps matrices large enough to be fast."""

Forecast = Callable[[Floats], Floats]
"""x_NLC -> y_NHC."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """Mean squared and mean absolute error over windows, horizon and columns, in scaled units."""

    name: str
    mse: float
    mae: float


def score(name: str, forecast: Forecast, inputs_NLC: Floats, targets_NHC: Floats) -> Score:
    """Judge `forecast` on all windows; none is dropped."""
    square = absolute = 0.0
    for start in range(0, len(inputs_NLC), CHUNK):
        part = slice(start, start + CHUNK)
        error_NHC = np.asarray(forecast(inputs_NLC[part]), np.float64) - targets_NHC[part]
        square += float(np.square(error_NHC).sum())
        absolute += float(np.abs(error_NHC).sum())
    return Score(name=name, mse=square / targets_NHC.size, mae=absolute / targets_NHC.size)


def naive(horizon: int) -> Forecast:
    """The last value, repeated."""
    return lambda x_NLC: np.repeat(x_NLC[:, -1:], horizon, axis=1)


def seasonal(season: int, horizon: int) -> Forecast:
    """The last `season` values, repeated; the lookback must hold that many."""
    steps = np.arange(horizon) % season - season
    return lambda x_NLC: x_NLC[:, steps]


@dataclass(frozen=True, kw_only=True)
class Ridge:
    """A linear map of mean-centred windows, shared by all columns. `penalty` is relative to the mean eigenvalue."""

    weight_HL: NDArray[np.float64]
    penalty: float

    def __call__(self, x_NLC: Floats) -> Floats:
        mean_N1C = x_NLC.mean(axis=1, keepdims=True)
        y_NHC = np.einsum("nlc,hl->nhc", x_NLC - mean_N1C, self.weight_HL, optimize=True)
        return np.asarray(y_NHC + mean_N1C, np.float64)


PENALTIES = tuple(10.0 ** (k / 2) for k in range(-14, 3))
TOLERANCE = 1e-3
"""The largest penalty within this share of the best validation error is taken: smaller weights quantise better."""


def ridge(train: tuple[Floats, Floats], validation: tuple[Floats, Floats], *, least: float = 0.0) -> Ridge:
    """Fit ridge regression in closed form, with the largest penalty that is as good as the best on validation.

    `least` is the smallest penalty to consider. A penalty of v gives the weights that are best when noise of variance
    v, in units of the windows' own variance, comes on top of every input (Bishop 1995, Neural Computation 7:108).
    Inputs [N, L, C] and targets [N, H, C]. One eigendecomposition serves all penalties, and the validation error
    follows from the same sums: |Y - XW|^2 = |Y|^2 - 2 tr(W'X'Y) + tr(W'X'XW).
    """
    gram_LL, cross_LH, _ = _sums(*train)
    held_LL, held_LH, square = _sums(*validation)
    eigenvalues, vectors = np.linalg.eigh(gram_LL)
    rotated_LH = vectors.T @ cross_LH
    scale = max(float(eigenvalues.mean()), np.finfo(np.float64).tiny)
    penalties = [p for p in PENALTIES if p >= least]
    weights_LH = [vectors @ (rotated_LH / (eigenvalues.clip(0) + p * scale)[:, None]) for p in penalties]
    errors = [
        square - 2 * float((w_LH * held_LH).sum()) + float((w_LH * (held_LL @ w_LH)).sum()) for w_LH in weights_LH
    ]
    chosen = max(k for k, error in enumerate(errors) if error <= min(errors) * (1 + TOLERANCE))
    return Ridge(weight_HL=np.ascontiguousarray(weights_LH[chosen].T), penalty=penalties[chosen])


def _sums(inputs_NLC: Floats, targets_NHC: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """X'X, X'Y and |Y|^2 of the mean-centred windows of every column."""
    lookback, horizon = inputs_NLC.shape[1], targets_NHC.shape[1]
    gram_LL, cross_LH, square = np.zeros((lookback, lookback)), np.zeros((lookback, horizon)), 0.0
    for x_NL, y_NH in _columns(inputs_NLC, targets_NHC):
        mean_N1 = x_NL.mean(axis=1, keepdims=True)
        x_NL, y_NH = x_NL - mean_N1, y_NH - mean_N1
        gram_LL += x_NL.T @ x_NL
        cross_LH += x_NL.T @ y_NH
        square += float(np.square(y_NH).sum())
    return gram_LL, cross_LH, square


def _columns(inputs_NLC: Floats, targets_NHC: Floats) -> Iterator[tuple[Floats, Floats]]:
    for column in range(inputs_NLC.shape[2]):
        for start in range(0, len(inputs_NLC), CHUNK):
            part = slice(start, start + CHUNK)
            yield inputs_NLC[part, :, column], targets_NHC[part, :, column]
