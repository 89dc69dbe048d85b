"""Classifiers: whether a file puts the same classes first as the float32 model, whatever it makes of their scores.

Two scores that float32 cannot tell apart are a tie, and either of them may come first: a class that a file puts among
the first k is right when the float32 model scores it no lower than its own k-th, less TIE.

Shapes: A answers (samples, pixels, time steps …), K classes.
"""

import numpy as np

from edgepass.judging.manifest import Ranking
from edgepass.judging.parity import Reals
from edgepass.runtimes import Array

FIRST = 5
"""k of top-k, where there are more classes than that."""
TIE = 1e-5
"""Of the largest score of an answer: closer ones are equal."""


def compare(reference: Array, actual: Array, axis: int, name: str) -> Ranking:
    """Of scores whose classes lie along `axis`. A score that is not a number comes last."""
    wanted_AK, given_AK = (_apart(scores, axis) for scores in (reference, actual))
    count = wanted_AK.shape[1]
    first = FIRST if count > FIRST and len(wanted_AK) else None
    flips = len(wanted_AK) - int(_right(wanted_AK, given_AK, 1).sum())
    return Ranking(
        name=name,
        answers=len(wanted_AK),
        flips=flips,
        k=first,
        top_k=None if first is None else float(_right(wanted_AK, given_AK, first).mean()),
    )


def _apart(scores: Array, axis: int) -> Reals:
    return np.moveaxis(scores, axis, -1).reshape(-1, scores.shape[axis]).astype(np.float64)


def _right(wanted_AK: Reals, given_AK: Reals, k: int) -> Reals:
    """Share of the first k of each answer that are right, [A]."""
    given_AK = np.where(np.isnan(given_AK), -np.inf, given_AK)
    chosen_Ak = np.argsort(-given_AK, axis=1, kind="stable")[:, :k]
    least_A = np.sort(wanted_AK, axis=1)[:, -k] - TIE * np.abs(wanted_AK).max(axis=1)
    share_A: Reals = (np.take_along_axis(wanted_AK, chosen_Ak, axis=1) >= least_A[:, None]).mean(
        axis=1, dtype=np.float64
    )
    return share_A
