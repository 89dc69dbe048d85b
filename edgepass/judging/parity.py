"""Parity: how far outputs are from the float32 reference, per output and per slice, so that nothing large hides it.

An output of real numbers is judged by its centred SQNR: noise against what is left of the signal once its mean over
the samples is taken away, which is R squared in dB. An offset is no signal, and a file that gives that mean for every
input has 0 dB. It is told of the whole output and of every slice along each axis but the samples', and what a slice is
held against is told too:

    own spread       its own signal, where float32 resolves that: RESOLVED_DB above one unit in the last place
    output's spread  the signal of the whole output, for a slice that is constant in these samples
    level            the values themselves, where the whole output is constant in these samples
    one              1.0, where it is zero throughout: there is nothing else to hold 1e-12 against

NaN is equal to NaN and an infinity to itself where both stand in the same place; anywhere else one of them is the worst
there is. A single sample has no spread, so there is no centred figure; an empty output is equal to itself.

Integers, truth values and indices are judged by how many agree: a class that is off by one is not a small error.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

SQNR_CAP_DB = 200.0
"""Reported for outputs that are equal bit for bit; float32 itself cannot reach it otherwise."""
RESOLVED_DB = 20.0
"""A slice whose spread is less than ten units in the last place of its level is constant as far as float32 can tell."""

Scale = Literal["own spread", "output's spread", "level", "one"]
Reals = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Centred SQNR of an output, `output_0`, or of a slice of one, `output_0[..., 4]`, without the samples' axis.

    `ceiling_db`: the signal over one unit in the last place of its values: what float32 could hold of it at best.
    """

    name: str
    centred_db: float
    ceiling_db: float
    scale: Scale


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Of an output of integers or truth values, or of a slice of one: elements that differ from the reference's.

    `constant`: how many would differ if each place always gave its most frequent value.
    """

    name: str
    differing: int
    elements: int
    constant: int

    @property
    def share(self) -> float:
        """Of the elements that agree, 0.0-1.0; an empty output agrees."""
        return 1.0 - self.differing / self.elements if self.elements else 1.0


@dataclass(frozen=True, kw_only=True)
class OutputParity:
    """One output. `max_abs`, `sqnr_db` and `cosine` are raw, as in Parity."""

    name: str
    max_abs: float
    sqnr_db: float
    cosine: float
    whole: Slice | None = None
    """Null for integers, and where a single sample was compared."""
    worst: Slice | None = None
    """The slice with the least centred SQNR; null where the output has no axis to slice, too."""
    agreement: Agreement | None = None
    """For integers and truth values only."""
    worst_agreement: Agreement | None = None
    """The slice that agrees least."""
    constant: int = 0
    """Slices that are constant in these samples, so that nothing is known of how the file follows them."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Largest absolute error; signal to quantisation noise ratio in dB; cosine similarity; number of samples.

    Those of the output whose ratio is the least, and raw: the level of the signal counts as signal. What judges is in
    `outputs`.
    """

    max_abs: float
    sqnr_db: float
    cosine: float
    samples: int
    centred_db: float | None = None
    """The least of the outputs', the mean over samples taken from the signal; null for integers, or a single sample."""
    outputs: list[OutputParity] = field(default_factory=list)

    @property
    def worst(self) -> Slice | None:
        """The slice, or the output that has none, with the least centred SQNR."""
        found = [part for output in self.outputs for part in (output.worst, output.whole) if part]
        return min(found, key=lambda part: part.centred_db, default=None)

    def __str__(self) -> str:
        return f"max abs {self.max_abs:.2e}, SQNR {self.sqnr_db:.1f} dB, cosine {self.cosine:.6f} over {self.samples}"


@dataclass(frozen=True)
class Powers:
    """Sums of squares over the samples, one for every place of an output: what all ratios of it are made of."""

    signal: Reals
    noise: Reals
    level: Reals
    """Of the values themselves, their mean not taken away."""
    resolution: Reals
    """Of one unit in the last place of the values."""
    samples: int


def compare(reference: NDArray[Any], actual: NDArray[Any], name: str = "output_0") -> Parity:
    """Parity of one output with its reference, both [samples, ...] of one shape.

    SQNR = 10 log10(sum r^2 / sum (r - a)^2) over all elements. The cosine is that of the two flattened arrays.
    A NaN or an infinity that only one of the two has makes the parity the worst there is: infinite error, -inf dB would
    not survive JSON, so max_abs is the largest float and SQNR is -200 dB.
    Raises ValueError when the shapes differ.
    """
    return of([reference], [actual], [name])


def of(references: Sequence[NDArray[Any]], actuals: Sequence[NDArray[Any]], names: Sequence[str] = ()) -> Parity:
    """Parity of all outputs of a model; they are called output_0, output_1 … unless `names` says otherwise."""
    names = names or [f"output_{number}" for number in range(len(references))]
    outputs = [_output(r, a, name) for r, a, name in zip(references, actuals, names, strict=True)]
    raw = min(outputs, key=lambda output: output.sqnr_db)
    first = references[0]
    return Parity(
        max_abs=raw.max_abs,
        sqnr_db=raw.sqnr_db,
        cosine=raw.cosine,
        samples=len(first),
        centred_db=min((o.whole.centred_db for o in outputs if o.whole), default=None),
        outputs=outputs,
    )


def is_exact(array: NDArray[Any]) -> bool:
    """Whether such an output is judged by agreement: integers and truth values."""
    return array.dtype.kind in "iub"


def powers(reference: NDArray[Any], actual: NDArray[Any]) -> Powers:
    """Of real outputs [samples, ...]; where NaN or an infinity stands in one of them only, the noise is infinite."""
    r, a = reference.astype(np.float64), actual.astype(np.float64)
    both = np.isfinite(r) & np.isfinite(a)
    same = both | (r == a) | (np.isnan(r) & np.isnan(a))
    r, error = np.where(both, r, 0.0), np.subtract(r, a, out=np.zeros_like(r), where=both)
    count = np.maximum(both.sum(0), 1)
    centred = np.where(both, r - r.sum(0) / count, 0.0)
    unit = np.spacing(np.abs(r).astype(reference.dtype if reference.dtype.itemsize < 8 else np.float32))
    return Powers(
        signal=np.square(centred).sum(0),
        noise=np.where(same, np.square(error), np.inf).sum(0),
        level=np.square(r).sum(0),
        resolution=np.square(unit.astype(np.float64)).sum(0),
        samples=len(r),
    )


def along(power: Reals) -> dict[tuple[int, int], float]:
    """Sums over every slice of an output: {(axis, index): sum}, of each axis that has two indices or more."""
    return {
        (axis, index): float(total)
        for axis, length in enumerate(power.shape)
        if length > 1
        for index, total in enumerate(power.sum(tuple(k for k in range(power.ndim) if k != axis)))
    }


def slice_name(output: str, rank: int, axis: int, index: int) -> str:
    """`output_0[..., 4]` on the last axis, `output_0[:, 4]` on one before it, `output_0[4]` on the first."""
    if axis == rank - 1 and rank > 1:
        return f"{output}[..., {index}]"
    return f"{output}[{':, ' * axis}{index}]"


def decibels(signal: float, noise: float) -> float:
    """10 log10 of a ratio of powers, within plus and minus SQNR_CAP_DB."""
    if noise == 0.0:
        return SQNR_CAP_DB
    if signal == 0.0 or not np.isfinite(noise):
        return -SQNR_CAP_DB
    return float(np.clip(10.0 * (np.log10(signal) - np.log10(noise)), -SQNR_CAP_DB, SQNR_CAP_DB))


def slices(found: Powers, output: str) -> list[Slice]:
    """The whole output first, then every slice of it."""
    whole = _whole(found, output)
    if whole.scale != "own spread":
        each = float(found.level.sum()) if whole.scale == "level" else float(found.samples * found.noise.size)
    else:
        each = float(found.signal.sum())
    scale: Scale = "output's spread" if whole.scale == "own spread" else whole.scale
    signal, noise, resolution = (along(p) for p in (found.signal, found.noise, found.resolution))
    parts = [whole]
    for axis, index in signal:
        key = axis, index
        ceiling = decibels(signal[key], resolution[key])
        resolved = ceiling >= RESOLVED_DB
        parts.append(
            Slice(
                name=slice_name(output, found.noise.ndim, axis, index),
                centred_db=decibels(signal[key] if resolved else each / found.noise.shape[axis], noise[key]),
                ceiling_db=ceiling,
                scale="own spread" if resolved else scale,
            )
        )
    return parts


def _whole(found: Powers, output: str) -> Slice:
    signal, noise, level = (float(p.sum()) for p in (found.signal, found.noise, found.level))
    ceiling = decibels(signal, float(found.resolution.sum()))
    if ceiling >= RESOLVED_DB:
        return Slice(name=output, centred_db=decibels(signal, noise), ceiling_db=ceiling, scale="own spread")
    if level > 0.0:
        return Slice(name=output, centred_db=decibels(level, noise), ceiling_db=ceiling, scale="level")
    ones = float(found.samples * found.noise.size)
    return Slice(name=output, centred_db=decibels(ones, noise), ceiling_db=ceiling, scale="one")


def _output(reference: NDArray[Any], actual: NDArray[Any], name: str) -> OutputParity:
    if reference.shape != actual.shape:
        raise ValueError(f"outputs have shape {actual.shape}, the reference's have {reference.shape}")
    raw = _raw(reference, actual, name)
    if is_exact(reference):
        whole, *parts = _agreements(reference, actual, name)
        return replace(raw, agreement=whole, worst_agreement=min(parts, key=lambda part: part.share, default=None))
    if len(reference) < 2:
        return raw
    signal, *ratios = slices(powers(reference, actual), name)
    return replace(
        raw,
        whole=signal,
        worst=min(ratios, key=lambda part: part.centred_db, default=None),
        constant=sum(part.scale != "own spread" for part in ratios),
    )


def _raw(reference: NDArray[Any], actual: NDArray[Any], name: str) -> OutputParity:
    r, a = reference.astype(np.float64).ravel(), actual.astype(np.float64).ravel()
    finite = np.isfinite(r) & np.isfinite(a)
    if not np.array_equal(r[~finite], a[~finite], equal_nan=True):
        return OutputParity(name=name, max_abs=float(np.finfo(np.float64).max), sqnr_db=-SQNR_CAP_DB, cosine=0.0)
    r, a = r[finite], a[finite]
    error = r - a
    signal, noise = float(r @ r), float(error @ error)
    norms = float(np.linalg.norm(r) * np.linalg.norm(a))
    return OutputParity(
        name=name,
        max_abs=float(np.abs(error).max(initial=0.0)),
        sqnr_db=decibels(signal or float(len(r)), noise),
        cosine=float(np.clip(r @ a / norms, -1.0, 1.0)) if norms > 0.0 else float(noise == 0.0),
    )


def _agreements(reference: NDArray[Any], actual: NDArray[Any], name: str) -> list[Agreement]:
    """Of the whole output first, then of every slice of it."""
    places = np.full(reference.shape[1:], len(reference))
    counts = (reference != actual).sum(0), places, len(reference) - _most_frequent(reference)
    differing, elements, constant = (along(count.astype(np.float64)) for count in counts)
    wrong, every, still = (int(count.sum()) for count in counts)
    return [
        Agreement(name=name, differing=wrong, elements=every, constant=still),
        *(
            Agreement(
                name=slice_name(name, places.ndim, *key),
                differing=int(differing[key]),
                elements=int(elements[key]),
                constant=int(constant[key]),
            )
            for key in differing
        ),
    ]


def _most_frequent(values: NDArray[Any]) -> NDArray[np.int64]:
    """How often the most frequent value of each place occurs in [samples, ...]."""
    ordered = np.sort(values, axis=0)
    run = np.zeros(values.shape[1:], np.int64)
    most = run.copy()
    for number, row in enumerate(ordered):
        run = np.where(row == ordered[number - 1], run + 1, 1) if number else run + 1
        most = np.maximum(most, run)
    return most
