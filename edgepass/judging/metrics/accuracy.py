"""Accuracy: the share of answers that are right.

The class with the largest score; of one score for two classes, or of labels, yes above 0, or above 0.5 where the float
model gives probabilities. Over all samples and places alike (micro average).
"""

import numpy as np

from edgepass.judging.metrics._measure import Measure, Truth, mean
from edgepass.judging.metrics._reading import labelled
from edgepass.runtimes import Array

HIGHER_IS_BETTER = True


def measure(outputs: Array, truth: Truth) -> Measure:
    """hits / answers."""
    read = labelled("accuracy", truth)
    right_NP = read.answers(outputs) == read.targets_NP
    return mean(right_NP.mean(axis=1, dtype=np.float64), read.reads)
