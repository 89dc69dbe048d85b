"""Difference: two files of any two formats side by side: what they take, hold and do, and what they give."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from edgepass.describing import feeding
from edgepass.describing.inspection import number_format, shape, short, tensor
from edgepass.errors import ArtifactError, DeviceOnlyError, InputError, MissingExtraError
from edgepass.judging import files, parity
from edgepass.judging.figures import decibels, size
from edgepass.judging.manifest import Outcome, TensorSpec, Weight
from edgepass.judging.parity import Parity
from edgepass.runtimes import Array, Contents, _child

HASH = re.compile("[0-9a-f]{64}|constant [0-9]+")
SAMPLES = 16
"""Of noise, where neither golden samples nor data are given."""
SAME_DB = 6.0
"""Signal to difference from which two weights of equal dimensions are one weight, rounded otherwise."""
GLANCED, GLANCE_DB = 4096, 3.0
"""Elements that are looked at first, and what they have at least in weights that may be the same."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the files."""

    file: str
    format: str
    bytes: int
    planned_bytes: int | None
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    weights: int
    elements: int
    methods: list[str] = field(default_factory=list)
    """Names of all that it has, where it has names for them; the rest is of the one that was asked for."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A weight in both files; `db` is the SQNR of what B's stands for against A's, None where one is not read."""

    a: Weight
    b: Weight
    db: float | None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What two files have in common, and what not. B is held against A.

    `interface`: a sentence for each input or output that differs. `operations`: name -> how many A and B have, of those
    that they do not have equally many of; formats name them differently.
    `given`: what both were run on; `parity` is None where they were not, and `note` says why.
    """

    a: Side
    b: Side
    interface: list[str]
    weights: list[Pair]
    only_a: list[Weight]
    only_b: list[Weight]
    operations: dict[str, tuple[int, int]]
    given: str = ""
    parity: Parity | None = None
    note: str = ""


def diff(
    a: Path,
    b: Path,
    *,
    method: str = "",
    data: Path | None = None,
    seed: int = 0,
    threads: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> Difference:
    """Read both files, and run them on one data set: `data`, else the golden samples beside A, else seeded noise.

    method: the one that is compared, of files that have several; of a file of one it is that, whatever its name.
    data: .npz or .safetensors with an array [samples, *input shape] for each input, in the order of their names.
    Raises InputError for data that cannot be had, for a file of no known kind, and where a method is to be named;
    ArtifactError for a broken file.
    """
    sides = [(file, files.runtime_of(file)) for file in (a, b)]
    contents: list[Contents] = []
    asked: list[str] = []
    for file, runtime in sides:
        say(f"reading {file.name}")
        found = _child.inspect(runtime, file, values=True)
        several = len(found.methods) > 1
        if several and not method:
            raise InputError(f"{file} has the methods {', '.join(found.methods)}; name one with --method")
        asked.append(method if several else "")
        contents.append(_child.inspect(runtime, file, method=method, values=True) if asked[-1] else found)
    ours, theirs = contents
    pairs, only_a, only_b = _paired(ours, theirs)
    interface = [*_specs("input", ours.inputs, theirs.inputs), *_specs("output", ours.outputs, theirs.outputs)]
    outputs: list[list[Array]] = []
    given = note = ""
    try:
        inputs, given = _inputs(a, method, ours, data, seed)
        for (file, runtime), name in zip(sides, asked, strict=True):
            say(f"running {file.name}")
            ran = _child.run(runtime, file, inputs, method=name, threads=threads, warmup=0, latency_runs=1)
            outputs.append(ran.outputs)
        note = _unlike(*outputs)
    except (ArtifactError, DeviceOnlyError, MissingExtraError) as error:
        note = str(error)
    return Difference(
        a=_side(a, ours),
        b=_side(b, theirs),
        interface=interface,
        weights=pairs,
        only_a=only_a,
        only_b=only_b,
        operations={
            name: (ours.ops.get(name, 0), theirs.ops.get(name, 0))
            for name in sorted({*ours.ops, *theirs.ops})
            if ours.ops.get(name) != theirs.ops.get(name)
        },
        given=given,
        parity=None if note else parity.of(outputs[0], outputs[1], [spec.name for spec in ours.outputs]),
        note=note,
    )


def _side(file: Path, contents: Contents) -> Side:
    return Side(
        file=str(file),
        format=contents.format,
        bytes=files.size(file, contents.beside),
        planned_bytes=contents.planned_bytes,
        inputs=contents.inputs,
        outputs=contents.outputs,
        weights=len(contents.weights),
        elements=sum(int(np.prod(w.shape)) for w in contents.weights),
        methods=contents.methods,
    )


def _inputs(file: Path, method: str, contents: Contents, data: Path | None, seed: int) -> tuple[list[Array], str]:
    """What both are run on, and what that is called."""
    if data is not None:
        return feeding.read(data, file, contents.inputs), str(data)
    if (found := feeding.golden(file, method=method)) is not None and len(found) == len(contents.inputs):
        return found, "golden samples"
    return feeding.noise(file, contents.inputs, SAMPLES, seed), f"noise, seed {seed}"


def _specs(what: str, ours: Sequence[TensorSpec], theirs: Sequence[TensorSpec]) -> list[str]:
    """A sentence for each that is not the same in shape and type; names differ from format to format."""
    if len(ours) != len(theirs):
        return [f"A has {len(ours)} {what}{'s' * (len(ours) != 1)}, B {len(theirs)}"]
    return [
        f"{what} {n} is {tensor(mine)} in A, {tensor(other)} in B"
        for n, (mine, other) in enumerate(zip(ours, theirs, strict=True))
        if (mine.shape, mine.dtype) != (other.shape, other.dtype)
    ]


def _unlike(ours: list[Array], theirs: list[Array]) -> str:
    """Why outputs cannot be held against each other; empty where they can."""
    if len(ours) != len(theirs):
        return f"A gives {len(ours)} outputs and B {len(theirs)}, so they are not compared"
    apart = [n for n, (x, y) in enumerate(zip(ours, theirs, strict=True)) if x.shape != y.shape]
    if apart:
        return f"output {apart[0]} has another shape in B than in A, so outputs are not compared"
    return ""


def _paired(ours: Contents, theirs: Contents) -> tuple[list[Pair], list[Weight], list[Weight]]:
    """Weights of both that stand for the same, the surest first; and what each holds alone.

    Files lose names and reorder dimensions, so that weights are found by their values in any order of those.
    """
    mine, other = (list(zip(c.weights, c.values, strict=True)) for c in (ours, theirs))
    likely: list[tuple[float, int, int]] = []
    for i, (_, x) in enumerate(mine):
        for j, (_, y) in enumerate(other):
            if x is not None and y is not None and (db := _nearest(x, y)) is not None:
                likely.append((-db, i, j))
    pairs: dict[int, tuple[int, float | None]] = {}
    taken: set[int] = set()
    for db, i, j in sorted(likely):
        if i not in pairs and j not in taken:
            pairs[i] = (j, -db)
            taken.add(j)
    for i, (weight, x) in enumerate(mine):
        for j, (w, y) in enumerate(other):
            if i not in pairs and j not in taken and (x is None or y is None) and _key(weight.shape) == _key(w.shape):
                pairs[i] = (j, None)
                taken.add(j)
    return (
        [Pair(a=mine[i][0], b=other[j][0], db=db) for i, (j, db) in sorted(pairs.items())],
        [weight for i, (weight, _) in enumerate(mine) if i not in pairs],
        [weight for j, (weight, _) in enumerate(other) if j not in taken],
    )


def _nearest(x: Array, y: Array) -> float | None:
    """SQNR of y against x in the order of dimensions in which it is most; None where that is less than SAME_DB."""
    if _key(x.shape) != _key(y.shape):
        return None
    ours, theirs = x.squeeze(), y.squeeze()
    some = np.unravel_index(np.arange(0, ours.size, 1 + ours.size // GLANCED), ours.shape)
    most = -parity.SQNR_CAP_DB
    for order in permutations(range(theirs.ndim)):
        turned = theirs.transpose(order)
        if turned.shape == ours.shape and _db(ours[some], turned[some]) >= GLANCE_DB:
            most = max(most, _db(ours, turned))
    return most if most >= SAME_DB else None


def _db(x: Array, y: Array) -> float:
    ours, theirs = x.astype(np.float64), y.astype(np.float64)
    return parity.decibels(float(np.square(ours).sum()), float(np.square(ours - theirs).sum()))


def _key(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(n for n in shape if n != 1))


def verdict(found: Difference, min_sqnr: float | None) -> Outcome:
    """Whether B's outputs are as near A's as asked for, in dB; a pass where nothing was."""
    if min_sqnr is None:
        return "pass"
    if found.parity is None or found.parity.centred_db is None:
        return "not-evaluated"
    return "pass" if found.parity.centred_db >= min_sqnr else "fail"


def tables(found: Difference) -> list[Table]:
    """Both files, the weights that are not equal in them, and the operations that they do not have equally many of."""
    summary = Table("", "A", "B", box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    for column in summary.columns[1:]:
        column.overflow = "fold"
    sides = (found.a, found.b)
    summary.add_row("file", *(Text(Path(s.file).name) for s in sides))
    if any(len(s.methods) > 1 for s in sides):
        summary.add_row("methods", *(Text(", ".join(s.methods) or "-") for s in sides))
    summary.add_row("format", *(s.format for s in sides))
    summary.add_row("size", *(size(s.bytes) for s in sides))
    summary.add_row("planned activations", *("-" if s.planned_bytes is None else size(s.planned_bytes) for s in sides))
    summary.add_row("weights", *(f"{s.weights} of {s.elements:,} elements" for s in sides))
    weights = _titled("weights", "weight", "shape", "A", "B", "B against A")
    weights.columns[0].overflow = "fold"
    for pair in found.weights:
        if pair.a.dtype != pair.b.dtype or pair.db != parity.SQNR_CAP_DB:
            told = "not read" if pair.db is None else decibels(pair.db)
            weights.add_row(Text(_name(pair)), shape(pair.a), *map(_format, (pair.a, pair.b)), told)
    for weight in found.only_a:
        weights.add_row(Text(short(weight.name)), shape(weight), _format(weight), "-", "")
    for weight in found.only_b:
        weights.add_row(Text(short(weight.name)), shape(weight), "-", _format(weight), "")
    operations = _titled("operations", "operation", "A", "B")
    for name, counts in found.operations.items():
        operations.add_row(Text(name), *map(str, counts))
    return [summary, *(view for view in (weights, operations) if view.row_count)]


def _titled(title: str, *headings: str) -> Table:
    return Table(*headings, title=title, box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)


def lines(found: Difference) -> list[str]:
    """What a table cannot hold: the interface, and the outputs of B against those of A."""
    same = sum(pair.a.dtype == pair.b.dtype and pair.db == parity.SQNR_CAP_DB for pair in found.weights)
    said = [*found.interface, f"{same} weights are the same in both"]
    if found.parity is None:
        return [*said, f"outputs are not compared: {found.note}"]
    for output in found.parity.outputs:
        if output.agreement:
            text = f"{output.agreement.differing} of {output.agreement.elements} elements differ"
        else:
            centred = f", centred {decibels(output.whole.centred_db)}" if output.whole else ""
            text = f"max abs {output.max_abs:.2e}, SQNR {decibels(output.sqnr_db)}{centred}, cosine {output.cosine:.6f}"
        said.append(f"{output.name} of B against A on {found.parity.samples} samples ({found.given}): {text}")
    return said


def _name(pair: Pair) -> str:
    """That of the file which has one: .pte files call weights by their hash."""
    return short(min((pair.a.name, pair.b.name), key=lambda name: bool(HASH.fullmatch(name))))


def _format(weight: Weight) -> str:
    return number_format(weight.dtype, weight.granularity)
