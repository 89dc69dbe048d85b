"""Hits, answers and targets of each class, for any weights of the samples: what F1 and IoU are made of.

Shapes: N samples, P places, K classes or labels, R resamplings.
"""

from collections.abc import Callable

import numpy as np

from edgepass.errors import InputError
from edgepass.judging.metrics._measure import Floats, Measure, Truth, draws
from edgepass.judging.metrics._reading import Classes, labelled
from edgepass.runtimes import Array

Formula = Callable[[Floats, Floats], Floats]


def macro(name: str, outputs: Array, truth: Truth, formula: Formula) -> Measure:
    """The mean over classes, or labels, of formula(hits_RK, either_RK); `either` counts answers and targets together.

    Of two classes with one score, that of class 1. A class that is neither answered nor a target is left out.
    """
    read = labelled(name, truth)
    if not read.labels:
        raise InputError(
            f"{name}: axis 1 of outputs {list(truth.reference.shape)} may hold labels or places, and nothing tells "
            "which; give outputs [N, 1, ...] of one label, class scores [N, classes, ...], or a metric of your own"
        )
    answers_NP = read.answers(outputs)
    count = read.classes if read.classes > 1 else read.labels
    if read.classes == 1:
        column_P = np.arange(answers_NP.shape[1]) if read.labels > 1 else np.zeros(answers_NP.shape[1], np.int64)
        said_NP, meant_NP = (np.where(x_NP == 1, column_P, -1) for x_NP in (answers_NP, read.targets_NP))
    else:
        said_NP, meant_NP = answers_NP.clip(-1, count), read.targets_NP
        count += bool((said_NP == count).any())  # all numbers that are no class are one more
    hits_NP = np.where(said_NP == meant_NP, said_NP, -1)
    (hits, a), (said, b), (meant, c) = (_of_classes(x_NP, count) for x_NP in (hits_NP, said_NP, meant_NP))

    def of(weights_RN: Floats) -> Floats:
        either_RK = said(weights_RN) + meant(weights_RN)
        known_RK = either_RK > 0
        each_RK = formula(hits(weights_RN), np.where(known_RK, either_RK, 1.0))
        counted_R = known_RK.sum(axis=1)
        total_R = np.where(known_RK, each_RK, 0.0).sum(axis=1)
        return np.where(counted_R > 0, total_R / np.maximum(counted_R, 1), np.nan)

    return Measure(of=of, rows=len(outputs), reads=read.reads, draws=draws(a + b + c))


def _of_classes(class_NP: Classes, count: int) -> tuple[Callable[[Floats], Floats], int]:
    """weights_RN -> the weight of each class, [R, K], and the steps that takes; -1 is no class."""
    pair, times = np.unique((np.arange(len(class_NP))[:, None] * count + class_NP)[class_NP >= 0], return_counts=True)
    row, key = np.divmod(pair, count)

    def totals(weights_RN: Floats) -> Floats:
        each = [np.bincount(key, weights=w_N[row] * times, minlength=count) for w_N in weights_RN]
        return np.asarray(each, np.float64)

    return totals, len(pair) + count
