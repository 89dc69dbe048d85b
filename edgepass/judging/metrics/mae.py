"""Mean absolute error; a forecaster's in units of its columns' standard deviations, of several levels the median's."""

import numpy as np

from edgepass.judging.metrics._measure import Measure, Truth, mean
from edgepass.judging.metrics._reading import values
from edgepass.runtimes import Array

HIGHER_IS_BETTER = False


def measure(outputs: Array, truth: Truth) -> Measure:
    """mean |output - target|."""
    given, wanted = values("mae", outputs, truth)
    return mean(np.abs(given - wanted).reshape(len(wanted), -1).mean(axis=1))
