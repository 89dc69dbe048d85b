"""F1: the harmonic mean of precision and recall, averaged over classes or labels.

Of one score for two classes, that of class 1. A class that is neither answered nor a target is left out.
"""

from edgepass.judging.metrics._counts import macro
from edgepass.judging.metrics._measure import Measure, Truth
from edgepass.runtimes import Array

HIGHER_IS_BETTER = True


def measure(outputs: Array, truth: Truth) -> Measure:
    """2 hits / (answers + targets) of each class."""
    return macro("f1", outputs, truth, lambda hits_RK, either_RK: 2 * hits_RK / either_RK)
