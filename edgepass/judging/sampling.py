"""What the samples that files are judged on cannot show: told from the data at hand."""

import hashlib
from collections.abc import Sequence

import numpy as np

from edgepass.runtimes import Array
from edgepass.samples import Samples

SHARED = 0.1
"""Of the evaluation samples; fewer may be alike by chance."""
APART = 3.0
"""Times that one spread may be another's."""
STILL = 1e-3
"""Of its level: a spread below that is hardly any."""


def notes(calibration: Samples | None, evaluation: Samples, names: Sequence[str] = ()) -> list[str]:
    """A sentence for each: samples that repeat, that calibrated, that were trained on, or that vary too little."""
    names = names or [f"input_{number}" for number in range(len(evaluation.inputs))]
    rows = _digests(evaluation)
    found = _repeated(rows)
    if evaluation.trained_on:
        found.append("the evaluation data hold what the model was trained on, which flatters it; give other data")
    if calibration is not None and (shared := _shared(rows, _digests(calibration))):
        found.append(
            f"{shared} of {len(rows)} evaluation samples are calibration samples too, which flatters int8 files; "
            "give other evaluation data"
        )
    for number, (name, inputs) in enumerate(zip(names, evaluation.inputs, strict=True)):
        before = None if calibration is None else calibration.inputs[number]
        found += _spread(name, inputs, before)
    return found


def _digests(samples: Samples) -> list[bytes]:
    """A hash of each sample."""
    arrays = [np.ascontiguousarray(x).reshape(len(samples), -1) for x in samples.inputs]
    return [hashlib.blake2b(b"".join(x[i].tobytes() for x in arrays)).digest() for i in range(len(samples))]


def _repeated(rows: list[bytes]) -> list[str]:
    distinct = len(set(rows))
    if len(rows) < 2 or distinct > len(rows) / 2:
        return []
    many = f"only {distinct} of {len(rows)} evaluation samples differ"
    said = many if distinct > 1 else f"all {len(rows)} evaluation samples are the same"
    return [f"{said}, so they show little of what a file would do; give more with --eval-data"]


def _shared(rows: list[bytes], calibration: list[bytes]) -> int:
    known = set(calibration)
    shared = sum(row in known for row in rows)
    return shared if shared >= SHARED * len(rows) else 0


def _spread(name: str, evaluation: Array, calibration: Array | None) -> list[str]:
    mine = _deviation(evaluation)
    if mine is None:
        return []
    before = None if calibration is None else _deviation(calibration)
    if before and mine * APART < before:
        return [
            f"{name} varies less in the evaluation data ({mine:.3g}) than in the calibration data ({before:.3g}), "
            "so files are not tried on all that they are made for"
        ]
    if before is not None and mine > APART * before:
        return [
            f"{name} varies more in the evaluation data ({mine:.3g}) than in the calibration data ({before:.3g}), "
            "so int8 files clip what calibration never saw; calibrate on data such as these"
        ]
    level = float(np.abs(evaluation.astype(np.float64)).mean())
    if 0 < mine < STILL * level:
        return [f"{name} hardly varies in the evaluation data: by {mine:.3g} about a level of {level:.3g}"]
    return []


def _deviation(array: Array) -> float | None:
    """Standard deviation from sample to sample; None of what is no number that varies, or of one sample."""
    if len(array) < 2 or not np.issubdtype(array.dtype, np.floating):
        return None
    return float(np.sqrt(array.astype(np.float64).var(axis=0).mean()))
