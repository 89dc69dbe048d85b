"""AUROC: the chance that a sample of a class scores higher than one that is not, averaged over classes or labels.

Equal scores count half. A class that all samples have, or none, is left out.
Shapes: N samples, K classes or labels, P places, G distinct scores, R resamplings.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgepass.errors import InputError
from edgepass.judging.metrics._measure import Floats, Measure, Truth, draws
from edgepass.judging.metrics._reading import labelled
from edgepass.runtimes import Array

HIGHER_IS_BETTER = True


def measure(outputs: Array, truth: Truth) -> Measure:
    """sum over pairs of (1 where the class scores higher, 1/2 where equal) / pairs, for each class against the rest."""
    read = labelled("auroc", truth)
    if read.scores is None or not read.labels:
        raise InputError(
            f"auroc needs a score for each class or label, [N, classes, ...], but outputs are "
            f"{truth.reference.dtype}{list(truth.reference.shape)}; name another metric, such as accuracy"
        )
    scores_NKP = read.scores(outputs)
    samples, _, places = scores_NKP.shape
    if read.classes > 1:
        curves = [_curve(scores_NKP[:, k], read.targets_NP == k) for k in range(read.classes)]
    elif read.labels > 1:
        curves = [_curve(scores_NKP[:, 0, k, None], read.targets_NP[:, k, None] == 1) for k in range(places)]
    else:
        curves = [_curve(scores_NKP[:, 0], read.targets_NP == 1)]

    def of(weights_RN: Floats) -> Floats:
        each_RK = np.stack([np.array([area(w_N) for w_N in weights_RN]) for area in curves], axis=1)
        known_RK = np.isfinite(each_RK)
        counted_R = known_RK.sum(axis=1)
        total_R = np.where(known_RK, each_RK, 0.0).sum(axis=1)
        return np.where(counted_R > 0, total_R / np.maximum(counted_R, 1), np.nan)

    return Measure(of=of, rows=samples, reads=read.reads, draws=draws(scores_NKP.size))


def _curve(score_NP: Floats, is_NP: NDArray[np.bool_]) -> Callable[[Floats], float]:
    """w_N -> the area for samples weighted so; NaN without a sample of each kind."""
    rank_G, rank_NP = np.unique(score_NP, return_inverse=True)
    rank_NP = rank_NP.reshape(score_NP.shape)

    def area(w_N: Floats) -> float:
        w_NP = np.broadcast_to(w_N[:, None], score_NP.shape)
        with_G = np.bincount(rank_NP[is_NP], weights=w_NP[is_NP], minlength=len(rank_G))
        without_G = np.bincount(rank_NP[~is_NP], weights=w_NP[~is_NP], minlength=len(rank_G))
        pairs = with_G.sum() * without_G.sum()
        below_G = np.cumsum(without_G) - without_G / 2
        return float(with_G @ below_G / pairs) if pairs > 0 else float("nan")

    return area
