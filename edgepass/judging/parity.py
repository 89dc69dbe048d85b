"""Parity: how far outputs are from the float32 reference. Always the same three numbers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SQNR_CAP_DB = 200.0
"""Reported for outputs that are equal bit for bit; float32 itself cannot reach it otherwise."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Largest absolute error; signal to quantisation noise ratio in dB; cosine similarity; number of samples."""

    max_abs: float
    sqnr_db: float
    cosine: float
    samples: int

    def __str__(self) -> str:
        return f"max abs {self.max_abs:.2e}, SQNR {self.sqnr_db:.1f} dB, cosine {self.cosine:.6f} over {self.samples}"


def compare(reference: NDArray[np.generic], actual: NDArray[np.generic]) -> Parity:
    """Parity of `actual` with `reference`, both [samples, ...] of one shape.

    SQNR = 10 log10(sum r^2 / sum (r - a)^2) over all elements. The cosine is that of the two flattened arrays.
    An element that is NaN or infinite in `actual` but not in `reference` makes the parity the worst there is:
    infinite error, -inf dB would not survive JSON, so max_abs is the largest float and SQNR is -200 dB.
    Raises ValueError when the shapes differ.
    """
    if reference.shape != actual.shape:
        raise ValueError(f"outputs have shape {actual.shape}, the reference's have {reference.shape}")
    r, a = reference.astype(np.float64).ravel(), actual.astype(np.float64).ravel()
    samples = len(reference) if reference.ndim else 1
    if not np.isfinite(a).all() or not np.isfinite(r).all():
        same = np.array_equal(r, a, equal_nan=True)
        worst = Parity(max_abs=float(np.finfo(np.float64).max), sqnr_db=-SQNR_CAP_DB, cosine=0.0, samples=samples)
        return Parity(max_abs=0.0, sqnr_db=SQNR_CAP_DB, cosine=1.0, samples=samples) if same else worst
    error = r - a
    signal, noise = float(r @ r), float(error @ error)
    if noise == 0.0:
        sqnr = SQNR_CAP_DB
    elif signal == 0.0:
        sqnr = -SQNR_CAP_DB
    else:
        sqnr = float(np.clip(10.0 * np.log10(signal / noise), -SQNR_CAP_DB, SQNR_CAP_DB))
    norms = float(np.linalg.norm(r) * np.linalg.norm(a))
    cosine = float(np.clip(r @ a / norms, -1.0, 1.0)) if norms > 0.0 else float(noise == 0.0)
    return Parity(max_abs=float(np.abs(error).max(initial=0.0)), sqnr_db=sqnr, cosine=cosine, samples=samples)
