"""How far a metric's drop can be told from so many samples: the paired bootstrap.

Shapes: N samples, R resamplings.
"""

from collections.abc import Iterator

import numpy as np

from edgepass.judging.metrics._measure import Floats, Measure

CHUNK = 4_000_000
"""Weights in memory at a time."""
TAILS = (2.5, 97.5)


def weights(samples: int, resamplings: int, block: int) -> Iterator[Floats]:
    """How often each sample is drawn, in rows of resamplings, chunk by chunk; the same at every call.

    Blocks of neighbours are drawn whole, and the last is followed by the first (Politis and Romano 1992).
    """
    generator = np.random.default_rng(0)
    block = min(block, samples)
    blocks = -(-samples // block)
    step = max(1, CHUNK // samples)
    for start in range(0, resamplings, step):
        size = min(step, resamplings - start)
        first_RB = generator.integers(0, samples, (size, blocks))
        drawn_RN = ((first_RB[:, :, None] + np.arange(block)) % samples).reshape(size, -1)[:, :samples]
        flat = (drawn_RN + samples * np.arange(size)[:, None]).ravel()
        yield np.bincount(flat, minlength=size * samples).reshape(size, samples).astype(np.float64)


def resampled(measure: Measure, resamplings: int, block: int) -> Floats:
    """The metric of each resampling, [R]."""
    if not resamplings:
        return np.zeros(0)
    return np.concatenate([measure.of(weights_RN) for weights_RN in weights(measure.rows, resamplings, block)])


def interval(drop_R: Floats, drop: float, samples: float, reference: float) -> tuple[float, float] | None:
    """Where 95 % of the drops lie; None where none can be told.

    Where no resampling differs, no sample changed its answer: 95 % is then sure only that no more than 3 in `samples`
    would (Hanley and Lippman-Hand 1983), each of which is taken to move the metric by its share.
    """
    known_R = drop_R[np.isfinite(drop_R)]
    if not len(known_R):
        return None
    low, high = (float(x) for x in np.percentile(known_R, TAILS))
    if low == high:
        reach = 3.0 / (samples * max(abs(reference), 1e-12))
        return drop - reach, drop + reach
    return min(low, drop), max(high, drop)
