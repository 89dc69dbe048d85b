"""Mean absolute scaled error: a forecast's error beside the mean change from one row to the next in what it saw.

Source: Hyndman and Koehler, "Another look at measures of forecast accuracy", 2006, without a season; the scale of each
column is over all histories of the evaluation data. Shapes: N samples, L rows of history, H horizon, C columns.
"""

import numpy as np

from edgepass.errors import InputError
from edgepass.judging.metrics._measure import Measure, Truth, mean
from edgepass.judging.metrics._reading import values
from edgepass.runtimes import Array

HIGHER_IS_BETTER = False


def measure(outputs: Array, truth: Truth) -> Measure:
    """mean over columns of mean |output - target| / mean |x_t - x_t-1|."""
    given, wanted = values("mase", outputs, truth)
    history = truth.inputs[0] if truth.inputs else None
    if history is None or history.ndim != 3 or wanted.ndim != 3 or history.shape[2] != wanted.shape[2]:
        raise InputError(
            "mase is of forecasts: it needs a first input [N, rows, columns] and targets [N, horizon, columns], but "
            f"they are {'none' if history is None else list(history.shape)} and {list(wanted.shape)}; name mae instead"
        )
    x_NLC = history.astype(np.float64) / np.asarray(truth.scale or 1.0)
    change_C = np.abs(np.diff(x_NLC, axis=1)).mean(axis=(0, 1)) if x_NLC.shape[1] > 1 else np.zeros(x_NLC.shape[2])
    if not (change_C > 0).all():
        still = ", ".join(str(c) for c in np.flatnonzero(change_C == 0))
        raise InputError(f"mase has no scale for column {still}, which never changes in the inputs; name mae instead")
    error_NC = np.abs(given - wanted).mean(axis=1)
    return mean((error_NC / change_C).mean(axis=1))
