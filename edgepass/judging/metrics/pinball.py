"""Pinball loss: the mean over levels of p times what lies above a forecast of level p, and 1 - p of what lies below.

Shapes: N samples, Q levels, H horizon, C columns.
"""

import numpy as np

from edgepass.errors import InputError
from edgepass.judging.metrics._measure import Measure, Truth, mean
from edgepass.runtimes import Array

HIGHER_IS_BETTER = False


def measure(outputs: Array, truth: Truth) -> Measure:
    """mean max(p e, (p - 1) e), e = target - output, in units of the columns' standard deviations."""
    targets, count = truth.targets, len(truth.levels)
    if not count or outputs.size != count * targets.size:
        raise InputError(
            "pinball is of forecasters that give several levels, [N, levels, horizon, columns], but outputs are "
            f"{list(outputs.shape)} for targets {list(targets.shape)}; name mae instead"
        )
    scale = np.asarray(truth.scale or 1.0)
    y_NQHC = outputs.reshape(len(targets), count, *targets.shape[1:]).astype(np.float64) / scale
    missed_NQHC = (targets.astype(np.float64) / scale)[:, None] - y_NQHC
    p_Q11 = np.asarray(truth.levels, np.float64).reshape(-1, *[1] * (targets.ndim - 1))
    loss_NQHC = np.maximum(p_Q11 * missed_NQHC, (p_Q11 - 1) * missed_NQHC)
    return mean(loss_NQHC.reshape(len(targets), -1).mean(axis=1))
