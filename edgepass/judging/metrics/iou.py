"""IoU: intersection over union of answers and targets (the Jaccard index), averaged over classes or labels.

Of one score for two classes, that of class 1. A class that is neither answered nor a target is left out.
"""

from edgepass.judging.metrics._counts import macro
from edgepass.judging.metrics._measure import Measure, Truth
from edgepass.runtimes import Array

HIGHER_IS_BETTER = True


def measure(outputs: Array, truth: Truth) -> Measure:
    """hits / (answers + targets - hits) of each class."""
    return macro("iou", outputs, truth, lambda hits_RK, either_RK: hits_RK / (either_RK - hits_RK))
