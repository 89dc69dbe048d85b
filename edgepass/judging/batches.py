"""A batch that may vary: evaluation samples handed over 1, an odd number and the most at a time, and what comes of it.

A file that is right at one size may hold that size in a reshape, or a mean over the batch in a constant, or run on a
kernel that forgets what is left over of four. So at each size the model itself is asked anew, and the file is held to
it in parity, and with the target's float32 file. Its noise may be what the same rows have at the samples' own batch, in
every place of the batch, where the model treats each row by itself; where it does not, what the recipe's graph has.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgepass.errors import ArtifactError, InputError
from edgepass.judging import expected, interface, parity
from edgepass.judging.comparison import by_row
from edgepass.judging.manifest import NOT_BELIEVED, AtBatch, Conversion, Excess
from edgepass.quantize.recipe import Scheme
from edgepass.runtimes import Array
from edgepass.task import Samples, spread

ROWS = 32
"""That a file is asked at each size, at least; two calls, where that is more."""
MOST_BYTES = 1 << 30
"""Of the inputs at one size."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One size: calls with so many rows each, [calls, size, ...], and the model's outputs.

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

    @property
    def rows(self) -> list[Array]:
        """The model's outputs, [rows, ...], as far as one is of rows."""
        return [by_row(r, self.size) for r in self.reference]


def sizes(most: int) -> list[int]:
    """1, an odd size between, and the largest."""
    return sorted({1, most // 2 | 1, most})


def of(
    samples: Samples,
    reference: list[Array],
    most: int | None,
    model: Callable[[Samples], list[Array]],
    names: Sequence[str] = (),
) -> list[Batch]:
    """Every size but that of the samples; none of a batch that is fixed.

    Raises InputError where the model cannot be called so, or the largest batch is too large to try.
    """
    own = samples.inputs[0].shape[1] if most else None
    if not (most and own):
        return []
    made = (_batch(samples, reference, size, own, model) for size in sizes(most) if size != own)
    return [replace(batch, names=names) for batch in made]


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
        return AtBatch(size=batch.size, rows=len(batch.picked), reason=why)
    found = Conversion(
        float32=expected.kept(batch.rows, outputs, batch.names) if len(batch.rows[0]) > 1 else [],
        float32_agreement=expected.agreed(batch.rows, outputs, batch.names),
        samples=len(batch.picked),
    )
    return AtBatch(size=batch.size, rows=len(batch.picked), conversion=found)


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
    graph = [by_row(g, batch.size) for g in graph]
    if not why and of_float and of_float.reason:
        why = f"the float32 file of this target fails there, {NOT_BELIEVED}: {of_float.reason}"
    if why:
        return AtBatch(size=batch.size, rows=len(batch.picked), reason=why)
    alone = _picked(own, batch) if batch.alone is not None else None
    found = of_float.conversion if of_float and of_float.conversion else Conversion(samples=len(batch.picked))
    if alone is None and graph:
        found = replace(found, excess=expected.excess(batch.rows, graph, outputs, scheme, batch.names))
    return AtBatch(
        size=batch.size,
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
    known = [(b.parity.centred_db, b.size) for b in found if b.parity and b.parity.centred_db is not None]
    if not known:
        return []
    least, size = min(known)
    others = " and ".join(str(b.size) for b in found)
    return [f"in batches of {others}: {least:.1f} dB at least ({size})"]


def _aligned(batch: Batch, given: list[Array] | str, path: Path) -> tuple[list[Array], str]:
    """Outputs [rows, ...], or why there are none."""
    try:
        if not isinstance(given, str):
            return [by_row(y, batch.size) for y in interface.aligned(given, batch.reference, path)], ""
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
