"""Parity: how far outputs are from the float32 reference, per output and per slice, so that nothing large hides it.

An output of real numbers is judged by its centred SQNR: noise against what is left of the signal once its mean over
the samples is taken away, which is R squared in dB. An offset is no signal, and a file that gives that mean for every
input has 0 dB. It is told of the whole output and of every slice along each axis but the samples', and what a slice is
held against is told too:

    own spread       its own signal, where that is one: RESOLVED_DB above one unit in the last place of its values, and
                     no more than FLOOR_DB below the output's spread
    output's spread  the signal of the whole output, as much of it as falls to one slice, for a slice that has none: it
                     is constant in these samples, or as good as that
    level            the values themselves, where the whole output is constant in these samples
    one              1.0, where it is zero throughout: there is nothing else to hold 1e-12 against

Below FLOOR_DB lies what float32 leaves of a sum that is zero, a class that a softmax never gives, a channel that wakes
once: a rounding of the output is as large, so it tells nothing of the file. A column of 0 to 1 beside ones of 0 to 640
is 56 dB below, and counts. Where the whole output is constant as far as float32 can tell, no spread is there to be
below, and a slice is held against its own wherever float32 resolves that. The level of a constant slice is no signal
either: of 1.0 beside 640 an int8 file with one step for all makes 0. Nothing is known of such slices; `notes` says so.

NaN is equal to NaN and an infinity to itself where both stand in the same place, which holds for arrays of any kind: a
float32 model that gives one of them is refused before (Task.reference). Anywhere else one of them is the worst there
is. A single sample has no spread, so there is no centred figure; an empty output is equal to itself.

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
FLOOR_DB = 80.0
"""Below the output's spread, a slice's is no signal. It is what a float32 file is asked for (expected.FLOAT32_DB)."""
MANY = 5
"""Elements that must differ before agreeing no better than a constant says anything: two numbers may tie."""
ULPS = 4.0
"""Units in the last place, root mean square, that float32 arithmetic is granted at the level of an output."""

NO_NUMBER = float(np.finfo(np.float64).max)
"""The error of what is no number: infinity would not survive JSON."""

AT_A_TIME = 1 << 22
"""Elements that are compared at once: some 32 MB for each array that this takes."""

Scale = Literal["own spread", "output's spread", "level", "one"]
Reals = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Centred SQNR of an output, `output_0`, or of a slice of one, `output_0[..., 4]`, without the samples' axis.

    `ceiling_db`: that over one unit in the last place of its values: what float32 could hold of it at best.
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

    @property
    def no_better(self) -> bool:
        """Whether a constant would agree as often: one that misses MANY itself, or else of less than half."""
        known = self.constant >= MANY or self.share < 0.5
        return known and self.differing >= max(self.constant, MANY)


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
    """The slice that agrees least, of those that are no better than a constant where there are any."""
    constant: int = 0
    """Slices that are as good as constant in these samples, so that nothing is known of how the file follows them."""
    slices: int = 0
    """Of how many."""

    @property
    def is_number(self) -> bool:
        """Whether NaN and infinity stand where they stand in the reference, and nowhere else."""
        return self.max_abs < NO_NUMBER


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
    A NaN or an infinity that only one of the two has makes the parity the worst there is: max_abs is NO_NUMBER and SQNR
    is -200 dB.
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


def names(count: int) -> list[str]:
    """What outputs are called that have no names of their own."""
    return [f"output_{number}" for number in range(count)]


def notes(found: Parity) -> list[str]:
    """A sentence on each output of which the samples tell nothing, or nothing of some of its slices."""
    return [
        f"{what} as good as constant in these samples, so nothing is known of how a file follows {them}"
        for output in found.outputs
        for what, them in _constant(output)
    ]


def _constant(output: OutputParity) -> list[tuple[str, str]]:
    if output.whole and output.whole.scale != "own spread" and output.constant == output.slices:
        return [(f"{output.name} is", "it")]
    some = f"{output.constant} of {output.slices} slices of {output.name}"
    return [(f"{some} is", "it") if output.constant == 1 else (f"{some} are", "them")] if output.constant else []


def is_exact(array: NDArray[Any]) -> bool:
    """Whether such an output is judged by agreement: integers and truth values. int8 holds rounded numbers."""
    return array.dtype.kind in "iub" and array.dtype != np.int8


def powers(reference: NDArray[Any], actual: NDArray[Any]) -> Powers:
    """Of real outputs [samples, ...]; a part of the places at a time, as outputs may be large."""
    r_SP, a_SP = (array.reshape(len(reference), -1) for array in (reference, actual))
    step = max(1, AT_A_TIME // max(1, len(reference)))
    parts = [_powers(r_SP[:, n : n + step], a_SP[:, n : n + step]) for n in range(0, r_SP.shape[1], step)]
    sums = [np.concatenate(column).reshape(reference.shape[1:]) for column in zip(*parts, strict=True)]
    signal, noise, level, resolution = sums or [np.zeros(reference.shape[1:])] * 4
    return Powers(signal=signal, noise=noise, level=level, resolution=resolution, samples=len(reference))


def _powers(reference: NDArray[Any], actual: NDArray[Any]) -> tuple[Reals, Reals, Reals, Reals]:
    r = reference.astype(np.float64)
    finite = np.isfinite(r)
    r = np.where(finite, r, 0.0)
    centred = np.where(finite, r - r.sum(0) / np.maximum(finite.sum(0), 1), 0.0)
    narrow = reference.dtype.kind == "f" and reference.dtype.itemsize < 8
    unit = np.spacing(np.abs(r).astype(reference.dtype if narrow else np.float32))
    squares = np.square(centred), _noise(reference, actual), np.square(r), np.square(unit.astype(np.float64))
    signal, noise, level, resolution = (square.sum(0) for square in squares)
    return signal, noise, level, resolution


def noises(reference: NDArray[Any], actual: NDArray[Any]) -> list[Reals]:
    """The noise of each sample: in the whole output first, then in every slice, in the order of `slices`."""
    rows = [_sums(_noise(r, a)) for r, a in zip(reference, actual, strict=True)]
    return list(np.stack(rows, axis=1))


def _sums(noise: Reals) -> Reals:
    """Over the whole of one sample, and over every slice of it."""
    return np.array([noise.sum(), *along(noise).values()])


def _noise(reference: NDArray[Any], actual: NDArray[Any]) -> Reals:
    """Squared errors; infinite where NaN or an infinity stands in one of the two only."""
    r, a = reference.astype(np.float64), actual.astype(np.float64)
    both = np.isfinite(r) & np.isfinite(a)
    same = both | (r == a) | (np.isnan(r) & np.isnan(a))
    return np.where(same, np.square(np.subtract(r, a, out=np.zeros_like(r), where=both)), np.inf)


def along(power: Reals) -> dict[tuple[int, int], float]:
    """Sums over every slice of an output: {(axis, index): sum}, of each axis that has two places or more."""
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


def reachable(wanted_db: float, ceiling_db: float) -> float:
    """The SQNR in dB that float32 arithmetic can be asked for: `wanted_db`, less where `ceiling_db` comes near it."""
    return float(-10.0 * np.log10(10.0 ** (-wanted_db / 10.0) + ULPS**2 * 10.0 ** (-ceiling_db / 10.0)))


def slices(found: Powers, output: str) -> list[Slice]:
    """The whole output first, then every slice of it."""
    signal, level = float(found.signal.sum()), float(found.level.sum())
    resolution = float(found.resolution.sum())
    scale: Scale = "own spread"
    if decibels(signal, resolution) < RESOLVED_DB:
        scale, signal = ("level", level) if level > 0.0 else ("one", float(found.samples * found.noise.size))
    noise = float(found.noise.sum())
    whole = Slice(name=output, centred_db=decibels(signal, noise), ceiling_db=decibels(signal, resolution), scale=scale)
    rank = found.noise.ndim
    noises, signals, resolutions = (along(p) for p in (found.noise, found.signal, found.resolution))
    return [
        whole,
        *(
            _slice(
                slice_name(output, rank, *key),
                signals[key],
                noises[key],
                resolutions[key],
                signal / found.noise.shape[key[0]],
                "output's spread" if scale == "own spread" else scale,
            )
            for key in signals
        ),
    ]


def _slice(name: str, signal: float, noise: float, resolution: float, otherwise: float, scale: Scale) -> Slice:
    """Held against its own signal where it has one, else against `otherwise`, which is called `scale`."""
    seen = scale != "output's spread" or decibels(signal, otherwise) > -FLOOR_DB
    if seen and decibels(signal, resolution) >= RESOLVED_DB:
        otherwise, scale = signal, "own spread"
    return Slice(
        name=name, centred_db=decibels(otherwise, noise), ceiling_db=decibels(otherwise, resolution), scale=scale
    )


def _output(reference: NDArray[Any], actual: NDArray[Any], name: str) -> OutputParity:
    if reference.shape != actual.shape:
        raise ValueError(f"outputs have shape {actual.shape}, the reference's have {reference.shape}")
    raw = _raw(reference, actual, name)
    if is_exact(reference):
        whole, *parts = _agreements(reference, actual, name)
        worst = min(parts, key=lambda part: (not part.no_better, part.share), default=None)
        return replace(raw, agreement=whole, worst_agreement=worst)
    if len(reference) < 2:
        return raw
    signal, *ratios = slices(powers(reference, actual), name)
    return replace(
        raw,
        whole=signal,
        worst=min(ratios, key=lambda part: part.centred_db, default=None),
        constant=sum(part.scale != "own spread" for part in ratios),
        slices=len(ratios),
    )


def _raw(reference: NDArray[Any], actual: NDArray[Any], name: str) -> OutputParity:
    signal = noise = given = product = max_abs = 0.0
    flat = reference.ravel(), actual.ravel()
    for start in range(0, reference.size, AT_A_TIME):
        r, a = (array[start : start + AT_A_TIME].astype(np.float64) for array in flat)
        finite = np.isfinite(r) & np.isfinite(a)
        if not np.array_equal(r[~finite], a[~finite], equal_nan=True):
            return OutputParity(name=name, max_abs=NO_NUMBER, sqnr_db=-SQNR_CAP_DB, cosine=0.0)
        r, a = r[finite], a[finite]
        error = r - a
        signal, noise = signal + float(r @ r), noise + float(error @ error)
        given, product = given + float(a @ a), product + float(r @ a)
        max_abs = max(max_abs, float(np.abs(error).max(initial=0.0)))
    norms = float(np.sqrt(signal) * np.sqrt(given))
    return OutputParity(
        name=name,
        max_abs=max_abs,
        sqnr_db=decibels(signal or float(reference.size), noise),
        cosine=float(np.clip(product / norms, -1.0, 1.0)) if norms > 0.0 else float(noise == 0.0),
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
