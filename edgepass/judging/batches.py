"""Sizes that may vary: evaluation samples of the least size, an awkward one and the most, and what comes of it.

A file that is right at one size may hold that size in a reshape, or a mean over the batch in a constant, or run on a
kernel that forgets what is left over of four. So at each size the model itself is asked anew, and the file is held to
it in parity, and with the target's float32 file. Its noise may be what the same rows have at the samples' own batch, in
every place of the batch, where the model treats each row by itself; where it does not, what the recipe's graph has.
Along any other dimension samples are cut off, or go on from their beginning.
"""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edgepass.errors import ArtifactError, InputError
from edgepass.judging import expected, interface, parity
from edgepass.judging.comparison import by_row
from edgepass.judging.manifest import NOT_BELIEVED, AtBatch, Conversion, Excess, Varying
from edgepass.quantize.recipe import Scheme
from edgepass.runtimes import Array
from edgepass.samples import Samples, spread

ROWS = 32
"""That a file is asked at each size of a batch, at least; two calls, where that is more."""
CALLS = 16
"""At most, at each size of another dimension."""
MOST_BYTES = 1 << 30
"""Of the inputs at one size."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One size: calls with so many rows each, [calls, size, ...], or so long along `axis`, and the model's outputs.

    `picked`: which rows of the evaluation samples they are. `own`: the size of those.
    `alone`: the model's outputs for the same rows there, [rows, ...]; None where they are others.
    """

    size: int
    own: int
    samples: Samples
    picked: NDArray[np.intp]
    reference: list[Array]
    alone: list[Array] | None
    names: Sequence[str] = ()
    axis: int = 0

    @property
    def rows(self) -> list[Array]:
        """The model's outputs, [rows, ...], as far as one is of rows; of calls along another dimension."""
        return [self.by_row(r) for r in self.reference]

    def by_row(self, stacked: Array) -> Array:
        """[calls, size, ...] as [rows, ...], where the batch varies."""
        return stacked if self.axis else by_row(stacked, self.size)


def sizes(most: int) -> list[int]:
    """1, an odd size between, and the largest."""
    return sorted({1, most // 2 | 1, most})


def lengths(low: int, high: int) -> list[int]:
    """The least, a prime between, and the largest."""
    primes = (n for n in range((low + high) // 2, low, -1) if all(n % m for m in range(2, math.isqrt(n) + 1)))
    return sorted({low, next(primes, low), high})


def of(
    samples: Samples,
    reference: list[Array],
    most: int | None,
    model: Callable[[Samples], list[Array]],
    names: Sequence[str] = (),
    dynamic: Sequence[tuple[Varying, Sequence[int]]] = (),
) -> list[Batch]:
    """Every size but the samples' own, of the batch and of each dimension of `dynamic`, with the inputs that have it.

    Raises InputError where the model cannot be called so, or the largest is too large to try.
    """
    own = samples.inputs[0].shape[1] if most else None
    made = [_batch(samples, reference, size, own, model) for size in sizes(most) if size != own] if most and own else []
    for varying, inputs in dynamic:
        size = samples.inputs[inputs[0]].shape[varying.axis + 1]
        others = [length for length in lengths(varying.low, varying.high) if length != size]
        made += [_length(samples, length, size, varying.axis, inputs, model) for length in others]
    return [replace(batch, names=names) for batch in made]


def calibration(samples: Samples, dynamic: Sequence[tuple[Varying, Sequence[int]]]) -> list[tuple[Tensor, ...]]:
    """Argument tuples of the samples, and of some of them at each size of the dimensions that vary but the batch."""
    picked = spread(len(samples), CALLS)
    others = [
        _cut(samples, picked, size, varying.axis, inputs)
        for varying, inputs in dynamic
        for size in lengths(varying.low, varying.high)
    ]
    return [arguments for given in (samples, *others) for arguments in given.arguments()]


def _cut(samples: Samples, picked: NDArray[np.intp], size: int, axis: int, inputs: Sequence[int]) -> Samples:
    """Some of the samples, of another size along the axis of these inputs."""
    along = np.arange(size) % samples.inputs[inputs[0]].shape[axis + 1]
    cut = [x[picked].take(along, axis + 1) if n in inputs else x[picked] for n, x in enumerate(samples.inputs)]
    return Samples(inputs=[np.ascontiguousarray(x) for x in cut])


def _length(
    samples: Samples, size: int, own: int, axis: int, inputs: Sequence[int], model: Callable[[Samples], list[Array]]
) -> Batch:
    picked = spread(len(samples), CALLS)
    needed = sum(samples.inputs[n][0].nbytes // own * size for n in inputs) * len(picked)
    if needed > MOST_BYTES:
        raise InputError(
            f"a size of {size} along dimension {axis} cannot be judged here: its inputs alone take "
            f"{needed / 2**30:.3g} GiB; give a smaller --dynamic"
        )
    given = _cut(samples, picked, size, axis, inputs)
    try:
        outputs = model(given)
    except InputError as error:
        raise InputError(f"at {size} along dimension {axis}: {error}") from None
    return Batch(size=size, own=own, samples=given, picked=picked, reference=outputs, alone=None, axis=axis)


def _batch(
    samples: Samples, reference: list[Array], size: int, own: int, model: Callable[[Samples], list[Array]]
) -> Batch:
    stacked = [by_row(x, own) for x in samples.inputs]
    calls = max(2, -(-ROWS // size))
    needed = sum(x[0].nbytes for x in stacked) * size * calls
    if needed > MOST_BYTES:
        raise InputError(
            f"a batch of {size} cannot be judged here: its inputs alone take {needed / 2**30:.3g} GiB; "
            "give a smaller --max-batch"
        )
    count = calls * size
    picked = spread(len(stacked[0]), count) if count <= len(stacked[0]) else np.arange(count) % len(stacked[0])
    regrouped = Samples(inputs=[x[picked].reshape(calls, size, *x.shape[1:]) for x in stacked])
    try:
        outputs = model(regrouped)
    except InputError as error:
        raise InputError(f"at a batch of {size}: {error}") from None
    made = Batch(size=size, own=own, samples=regrouped, picked=picked, reference=outputs, alone=None)
    alone = _picked(reference, made)
    same = alone is not None and all(
        parity.compare(r, a).sqnr_db >= expected.FLOAT32_DB for r, a in zip(made.rows, alone, strict=True)
    )
    return replace(made, alone=alone if same else None)


def kept(batch: Batch, given: list[Array] | str, path: Path) -> AtBatch:
    """What the target's float32 file keeps of the model at this size."""
    outputs, why = _aligned(batch, given, path)
    if why:
        return AtBatch(size=batch.size, axis=batch.axis, rows=len(batch.picked), reason=why)
    found = Conversion(
        float32=expected.kept(batch.rows, outputs, batch.names) if len(batch.rows[0]) > 1 else [],
        float32_agreement=expected.agreed(batch.rows, outputs, batch.names),
        samples=len(batch.picked),
    )
    return AtBatch(size=batch.size, axis=batch.axis, rows=len(batch.picked), conversion=found)


def compare(
    batch: Batch,
    given: list[Array] | str,
    own: Sequence[Array],
    graph: Sequence[Array],
    of_float: AtBatch | None,
    path: Path,
    scheme: Scheme,
) -> AtBatch:
    """The file at this size. `own`: its outputs on the evaluation samples; `graph`: those of the recipe's graph here.

    `of_float`: the target's float32 file at this size, None where there is none.
    """
    outputs, why = _aligned(batch, given, path)
    graph = [batch.by_row(g) for g in graph]
    if not why and of_float and of_float.reason:
        why = f"the float32 file of this target fails there, {NOT_BELIEVED}: {of_float.reason}"
    if why:
        return AtBatch(size=batch.size, axis=batch.axis, rows=len(batch.picked), reason=why)
    alone = _picked(own, batch) if batch.alone is not None else None
    found = of_float.conversion if of_float and of_float.conversion else Conversion(samples=len(batch.picked))
    if alone is None and graph:
        found = replace(found, excess=expected.excess(batch.rows, graph, outputs, scheme, batch.names))
    return AtBatch(
        size=batch.size,
        axis=batch.axis,
        rows=len(batch.picked),
        parity=parity.of(batch.rows, outputs, batch.names),
        alone=parity.of(batch.alone, alone, batch.names) if batch.alone is not None and alone is not None else None,
        apart=_apart(batch, alone, outputs, scheme) if alone else [],
        conversion=found,
    )


def _apart(batch: Batch, alone: list[Array], outputs: list[Array], scheme: Scheme) -> list[Excess]:
    """The noise of rows that go together over that of the same rows by themselves.

    Ranges that are found at run time are those of all rows, so then no place of the batch is told from another.
    """
    width = () if scheme == "dynamic" else (batch.size,)
    rows, theirs, mine = ([y.reshape(-1, *width, *y.shape[1:]) for y in ys] for ys in (batch.rows, alone, outputs))
    return expected.excess(rows, theirs, mine, scheme, batch.names)


def notes(found: Sequence[AtBatch]) -> list[str]:
    """A sentence on the size at which the file is worst."""
    said: list[str] = []
    for axis in sorted({b.axis for b in found}):
        here = [b for b in found if b.axis == axis]
        known = [(b.parity.centred_db, b.size) for b in here if b.parity and b.parity.centred_db is not None]
        if known:
            least, size = min(known)
            others = " and ".join(str(b.size) for b in here)
            what = f"at {others} along dimension {axis}" if axis else f"in batches of {others}"
            said.append(f"{what}: {least:.1f} dB at least ({size})")
    return said


def _aligned(batch: Batch, given: list[Array] | str, path: Path) -> tuple[list[Array], str]:
    """Outputs [rows, ...], or why there are none."""
    try:
        if not isinstance(given, str):
            return [batch.by_row(y) for y in interface.aligned(given, batch.reference, path)], ""
        why = given
    except ArtifactError as error:
        why = str(error)
    return [], why.replace(f"{path.parent}{os.sep}", "")


def _picked(outputs: Sequence[Array], batch: Batch) -> list[Array] | None:
    """Of outputs on the evaluation samples those of this batch's rows; None where an output is not one of rows."""
    rows = [by_row(y, batch.own) for y in outputs]
    shapes = [r.shape[1:] for r in batch.rows]
    if [r.shape[1:] for r in rows] != shapes or any(len(r) <= batch.picked.max() for r in rows):
        return None
    return [r[batch.picked] for r in rows]
