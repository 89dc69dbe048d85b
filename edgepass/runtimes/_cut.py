"""A file cut at its int8 tensors: each part between them is given the graph's own integers, and shows what it makes.

    inputs ── part ── q ─┐          the graph's q ── part ── q' ─┐         the graph's q' ── part ── …
                         └ compared                              └ compared

So a difference is of the part that makes it, never of one before. A tensor of the file is known as the graph's by its
scale, its dimensions and, among several, its values; what the graph has nothing of reads what the file itself gives.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgepass.runtimes import Array, Cut, Place

Integers = NDArray[np.int32]
Key = TypeVar("Key", bound=Hashable)
SCALE = 1e-5
"""Relative difference of two scales that are one."""
MOST_AXES = 6


@dataclass(frozen=True, kw_only=True)
class Step:
    """How far the integers of one of the graph's tensors are off in the file: at most, and on average, in steps."""

    tensor: int
    worst: int
    beyond: float
    """Share of its elements that are off by more than one step."""
    bias: float
    elements: int


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
    off: dict[int, list[Integers]] = {}
    made: list[list[Array]] = []
    for sample in range(len(inputs[0])):
        arguments = [x[sample] for x in inputs]
        own, _ = cut(arguments, None)
        found = [_find(p, q, scales, [t[sample] for t in tensors]) for p, q in zip(cut.places, own, strict=True)]
        given = [
            q if match is None else (match[1] + p.zero).astype(q.dtype)
            for p, q, match in zip(cut.places, own, found, strict=True)
        ]
        shown, outputs = cut(arguments, given)
        made.append(outputs if None not in [match and match[0] for match in found] else [])
        for place, q, match in zip(cut.places, shown, found, strict=True):
            # What reads a tensor that the graph has nothing of is not fed with the graph's integers.
            if match is not None and all(found[number] is not None for number in place.reads):
                off.setdefault(match[0], []).append(q.astype(np.int32) - place.zero - match[1])
    steps = []
    for tensor, parts in sorted(off.items()):
        difference = np.concatenate([part.ravel() for part in parts])
        steps.append(
            Step(
                tensor=tensor,
                worst=int(np.abs(difference).max()),
                beyond=float(np.mean(np.abs(difference) > 1)),
                bias=float(difference.mean()),
                elements=difference.size,
            )
        )
    return steps, [np.stack(column) for column in zip(*made, strict=True)]


def _find(
    place: Place, own: Array, scales: Sequence[float], tensors: Sequence[Integers]
) -> tuple[int, Integers] | None:
    """The graph's tensor that this one is, in its layout; the nearest where several could be."""
    size = sorted(n for n in own.shape if n > 1)
    mine = own.astype(np.int32) - place.zero
    best: tuple[float, int, Integers] | None = None
    for number, (scale, tensor) in enumerate(zip(scales, tensors, strict=True)):
        if (
            min(abs(scale - s) for s in place.scales) > SCALE * scale
            or sorted(n for n in tensor.shape if n > 1) != size
        ):
            continue
        for ordered in _layouts(tensor, own.shape):
            distance = float(np.abs(ordered - mine).mean())
            if best is None or distance < best[0]:
                best = distance, number, ordered
    return best and best[1:]


def _layouts(tensor: Integers, shape: tuple[int, ...]) -> list[Integers]:
    """`tensor` in each order of its dimensions that makes it this shape; dimensions of one go anywhere."""
    bare, wanted = tensor.squeeze(), tuple(n for n in shape if n > 1)
    if bare.shape == wanted and (bare.ndim > MOST_AXES or len(set(wanted)) == len(wanted)):
        return [bare.reshape(shape)]
    orders: list[Any] = list(permutations(range(bare.ndim))) if bare.ndim <= MOST_AXES else []
    return [bare.transpose(o).reshape(shape) for o in orders if bare.transpose(o).shape == wanted]
