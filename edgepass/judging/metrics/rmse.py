"""Root of the mean squared error, in the units of the targets."""

import numpy as np

from edgepass.judging.metrics._measure import Measure, Truth, mean
from edgepass.judging.metrics._reading import values
from edgepass.runtimes import Array

HIGHER_IS_BETTER = False


def measure(outputs: Array, truth: Truth) -> Measure:
    """sqrt(mean (output - target)^2)."""
    given, wanted = values("rmse", outputs, truth)
    return mean(np.square(given - wanted).reshape(len(wanted), -1).mean(axis=1), then=np.sqrt)
