"""R squared: the share of the targets' variance that is explained, of all outputs together.

Each output's variance is around its own mean, and outputs count by their variance.
"""

import numpy as np

from edgepass.judging.metrics._measure import Floats, Measure, Truth, sums
from edgepass.judging.metrics._reading import values
from edgepass.runtimes import Array

HIGHER_IS_BETTER = True
ROUNDING = 1e-12
"""Less than that share of the squares is no variance."""


def measure(outputs: Array, truth: Truth) -> Measure:
    """1 - sum (output - target)^2 / sum (target - mean target)^2. Shapes: N samples, D outputs, R resamplings."""
    given, wanted = values("r2", outputs, truth)
    t_ND = wanted.reshape(len(wanted), -1)
    t_ND = t_ND - t_ND.mean(axis=0)  # squares of a level would swamp the variance
    square_N1 = np.square(given - wanted).reshape(len(wanted), -1).sum(axis=1, keepdims=True)
    sums_NK = np.concatenate([square_N1, np.square(t_ND).sum(axis=1, keepdims=True), t_ND], axis=1)

    def formula(sums_RK: Floats, weight_R: Floats) -> Floats:
        variance_R = sums_RK[:, 1] - np.square(sums_RK[:, 2:]).sum(axis=1) / weight_R
        known_R = variance_R > ROUNDING * sums_RK[:, 1]
        return np.where(known_R, 1 - sums_RK[:, 0] / np.where(known_R, variance_R, 1.0), np.nan)

    return sums(sums_NK, formula)
