"""A file cut at its int8 tensors: each part between them is given the graph's own integers, and shows what it makes.

    inputs ── part ── q ─┐          the graph's q ── part ── q' ─┐         the graph's q' ── part ── …
                         └ compared                              └ compared

So a difference is of the part that makes it, never of one before. A tensor of the file is known as the graph's by its
scale, its dimensions and, among several, its values; by its values too where it is made of moved numbers, or where only
the number of elements is the same. What the graph has nothing of reads what the file itself gives.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edgepass.runtimes import Array, Cut, Place

Integers = NDArray[np.int32]
Key = TypeVar("Key", bound=Hashable)
SCALE = 1e-5
"""Relative difference of two scales that are one."""
MOST_AXES = 6
NEAR = 0.25
"""Of a tensor's root mean square: how near another shape of it must be. An order that is wrong is about as far as it is
large."""
TIMES, ROUNDING = 2, 0.5
"""How much further from a tensor of the graph than the nearest, and by how many steps more, another place may be that
is it too: it has the same numbers, moved or rounded once more."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """How far the integers of one of the graph's tensors are off in the file: at most, and on average, in steps."""

    tensor: int
    worst: int
    beyond: float
    """Share of its elements that are off by more than one step."""
    bias: float
    elements: int


@dataclass(frozen=True, kw_only=True)
class _Match:
    """Which of the graph's tensors a place is, its integers in the layout of the file, and how far the file's are."""

    tensor: int
    values: Integers
    distance: float


def reads(place: Key, places: Sequence[Key], sources: Mapping[Key, Iterable[Key]]) -> frozenset[int]:
    """Numbers among `places` of what a tensor is made of, to the nearest; sources: tensor -> what its maker reads."""
    found: set[int] = set()
    seen: set[Key] = set()
    todo = list(sources[place])
    while todo:
        at = todo.pop()
        if at in places:
            found.add(places.index(at))
        elif at in sources and at not in seen:
            seen.add(at)
            todo += sources[at]
    return frozenset(found)


def follow(
    cut: Cut, scales: Sequence[float], tensors: Sequence[Integers], inputs: Sequence[Array]
) -> tuple[list[Step], list[Array]]:
    """Of each tensor of the graph that the file has too; and the outputs, [samples, ...], of its last parts.

    `tensors` are [samples, ...] integers less their zero point, `inputs` [samples, ...].
    """
    arguments = [[x[sample] for x in inputs] for sample in range(len(inputs[0]))]
    unfed = [cut(row, None)[0] for row in arguments]
    own = _made(cut, unfed)
    found = [_find(place, mine, scales, tensors) for place, mine in zip(cut.places, own, strict=True)]
    found = _made_first(cut.places, _nearest(found))
    uncut = _uncut(cut.places, found)
    known = [mine if match is None else match.values for mine, match in zip(own, found, strict=True)]
    while True:
        given = [(q + at.zero).astype(like.dtype) for at, q, like in zip(cut.places, known, unfed[0], strict=True)]
        answers = [cut(row, [q[sample] for q in given]) for sample, row in enumerate(arguments)]
        shown = _made(cut, [made for made, _ in answers])
        if all(np.array_equal(known[number], shown[number]) for number in uncut):
            break
        for number in uncut:
            known[number] = shown[number]
    fed = {number for number, match in enumerate(found) if match is not None}
    for _ in uncut:
        fed |= {number for number in uncut if cut.places[number].moves and cut.places[number].reads <= fed}
    rounded = {number for number in uncut if cut.places[number].reads <= fed}
    steps: dict[int, list[Integers]] = {}
    for place, q, match in zip(cut.places, shown, found, strict=True):
        # What reads a tensor that the graph has nothing of is not fed with the graph's integers; what the file itself
        # has rounded just before may be off by a step, and is then what is compared.
        if match is not None and place.reads <= (fed | rounded if place.moves else fed):
            steps.setdefault(match.tensor, []).append((q - match.values).ravel())
    return (
        [_step(tensor, np.concatenate(parts)) for tensor, parts in sorted(steps.items())],
        [np.stack(column) for column in zip(*(outputs for _, outputs in answers), strict=True)]
        if len(fed) == len(found)
        else [],
    )


def _uncut(places: Sequence[Place], found: Sequence[_Match | None]) -> list[int]:
    """Numbers of the places that the graph has nothing of, and that round no more than it does.

    They are moved numbers, and what becomes a tensor of the graph by being moved. Each is given what is made at it of
    the graph's integers, as if the file were not cut there.
    """
    moved = {
        number
        for place, match in zip(places, found, strict=True)
        if place.moves and match is not None
        for number in place.reads
    }
    return [n for n, place in enumerate(places) if found[n] is None and (place.moves or n in moved)]


def _made(cut: Cut, rows: Sequence[Sequence[Array]]) -> list[Integers]:
    """What is made at each place, [samples, ...], less its zero point."""
    columns = zip(*rows, strict=True)
    return [np.stack(q).astype(np.int32) - place.zero for place, q in zip(cut.places, columns, strict=True)]


def _step(tensor: int, off: Integers) -> Step:
    return Step(
        tensor=tensor,
        worst=int(np.abs(off).max()),
        beyond=float(np.mean(np.abs(off) > 1)),
        bias=float(off.mean()),
        elements=off.size,
    )


def _nearest(found: Sequence[_Match | None]) -> list[_Match | None]:
    """Without those that are further from their tensor of the graph than another is.

    A converter may make integers of what the graph rounds in pieces, with the scale and dimensions of what they become.
    """
    least: dict[int, float] = {}
    for match in found:
        if match is not None:
            least[match.tensor] = min(match.distance, least.get(match.tensor, match.distance))
    return [m if m is not None and m.distance <= TIMES * least[m.tensor] + ROUNDING else None for m in found]


def _made_first(places: Sequence[Place], found: Sequence[_Match | None]) -> list[_Match | None]:
    """Without moved numbers where what is made as it is in the graph is there too."""
    made = {match.tensor for place, match in zip(places, found, strict=True) if match is not None and not place.moves}
    return [None if m and place.moves and m.tensor in made else m for place, m in zip(places, found, strict=True)]


def _find(place: Place, own: Integers, scales: Sequence[float], tensors: Sequence[Integers]) -> _Match | None:
    """The graph's tensor that this one is, in its layout; the nearest where several could be.

    Values may be wrong, so where scale and dimensions fit they need not be near; moved numbers have the scale of what
    they were, whatever they are now.
    """
    best: _Match | None = None
    for number, (scale, tensor) in enumerate(zip(scales, tensors, strict=True)):
        if min(abs(scale - s) for s in place.scales) > SCALE * scale or tensor.size != own.size:
            continue
        near = NEAR * _rms(tensor)
        for ordered, fits in _layouts(tensor, own.shape):
            distance = _rms(ordered - own)
            if ((fits and not place.moves) or distance <= near) and (best is None or distance < best.distance):
                best = _Match(tensor=number, values=ordered, distance=distance)
    return best


def _rms(values: Integers) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def _layouts(tensor: Integers, shape: tuple[int, ...]) -> Iterator[tuple[Integers, bool]]:
    """`tensor` in each order of its dimensions, in this shape, and whether they are the same but for those of one.

    The first dimension is of samples.
    """
    bare, wanted = [n for n in tensor.shape[1:] if n > 1], [n for n in shape[1:] if n > 1]
    tensor = tensor.reshape(len(tensor), *bare)
    if len(bare) > MOST_AXES or (bare == wanted and len(set(bare)) == len(bare)):
        yield tensor.reshape(shape), bare == wanted
        return
    for order in permutations(range(1, tensor.ndim)):
        ordered = tensor.transpose(0, *order)
        yield ordered.reshape(shape), [*ordered.shape[1:]] == wanted
