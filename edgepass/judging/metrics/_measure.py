"""A measure: a metric of given outputs, for any weights of the samples.

Shapes: N samples, R resamplings, K sums.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgepass.runtimes import Array

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What outputs are measured against; `reference`, the float model's, tells how all are read."""

    reference: Array
    targets: Array
    inputs: tuple[Array, ...] = ()
    levels: tuple[float, ...] = ()
    """Of forecasts [N, Q, H, C] of targets [N, H, C]."""
    scale: tuple[float, ...] = ()
    """Units of the last axis, in which errors are told; () for units of the targets."""


MOST, FEWEST = 1000, 200
BUDGET, DEAREST = 1e8, 4e6
"""Elementary steps, of all resamplings and of one: a second or two of a file's judging."""


def draws(steps: float) -> int:
    """How many resamplings a metric of so many steps is worth: a thousand, a few hundred, or none."""
    return int(np.clip(BUDGET / (4 * steps + 1), FEWEST, MOST)) if steps <= DEAREST else 0


@dataclass(frozen=True, kw_only=True)
class Measure:
    """`of(weights_RN)` gives the metric R times, with samples weighted as each row says."""

    of: Callable[[Floats], Floats]
    rows: int
    values_N: Floats | None = None
    """Each sample's own, where the metric follows from their mean."""
    reads: str = ""
    """How outputs were read, where that can be told."""
    draws: int
    """How many resamplings it is worth; 0 where it takes too long."""
    whole: float | None = None
    """The metric of the samples as they are, where that is known already."""

    @property
    def value(self) -> float:
        """The metric of the samples as they are."""
        return float(self.of(np.ones((1, self.rows)))[0]) if self.whole is None else self.whole


def mean(
    values_N: Floats,
    reads: str = "",
    *,
    then: Callable[[Floats], Floats] = lambda mean_R: mean_R,
    whole: float | None = None,
) -> Measure:
    """The metric `then(mean of the samples' values)`."""
    return Measure(
        of=lambda weights_RN: then(weights_RN @ values_N / weights_RN.sum(axis=1)),
        rows=len(values_N),
        values_N=values_N,
        reads=reads,
        draws=draws(len(values_N)),
        whole=whole,
    )


def sums(sums_NK: Floats, formula: Callable[[Floats, Floats], Floats], reads: str = "") -> Measure:
    """The metric `formula(sums_RK, weight_R)` of weighted sums."""
    return Measure(
        of=lambda weights_RN: formula(weights_RN @ sums_NK, weights_RN.sum(axis=1)),
        rows=len(sums_NK),
        reads=reads,
        draws=draws(sums_NK.size / 16),  # a matrix product
    )
