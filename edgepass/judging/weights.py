"""Weights' values: what a file holds, dequantised as it says, against what the recipe's own graph computes with.

Files lose names and reorder dimensions, so a weight is found by its values among the constants of its dimensions, laid
out as the operation that reads it says; where that is not known, in any order that fits. How far it may be off is
rounding alone: of float32 where it was not rounded further, of float16, or, where a converter quantises by itself,
half a step of the grid that the values of a channel, or of the tensor, ask for.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from edgepass.judging.manifest import Weight, WeightValues
from edgepass.quantize.weights import Stated
from edgepass.runtimes import Array

Floats = NDArray[np.float32]

ORDER = "OVIDHW"
FLOAT32 = 2.0**-20
"""Rounding of the largest value of a channel: float32's own is 2^-24; folding multiplies and divides a few times."""
FLOAT16 = 2.0**-10
"""Of a value; float16's own is 2^-11, and what lies between two of them goes either way."""
FOLDED = 4
"""Times that, where what follows was multiplied in: some converters compute the product in float16 throughout."""
SMALLEST_HALF = 2.0**-24
SLACK = 1.02
"""Of half a step: converters divide by 127 or 127.5, and what lies between two steps goes either way."""


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A constant of the file with its values."""

    weight: Weight
    values: Floats


def compare(stated: Sequence[Stated], weights: Sequence[Weight], values: Sequence[Array | None]) -> WeightValues:
    """Which of the stated weights the file holds, which it holds with other values, and which cannot be told."""
    stock: dict[tuple[int, ...], list[_Found]] = defaultdict(list)
    unread: dict[tuple[int, ...], str] = {}
    for weight, value in zip(weights, values, strict=True):
        if value is not None and np.issubdtype(value.dtype, np.floating):
            stock[_key(value.shape)].append(_Found(weight=weight, values=value.astype(np.float32, copy=False)))
        else:
            unread.setdefault(_key(weight.shape), weight.name)
    left: list[Stated] = []
    taken: set[int] = set()
    compared = 0
    for want in stated:
        agreeing = [found for found in stock[_key(want.forms[0].shape)] if _agrees(want, found)]
        if agreeing:
            compared += 1
            taken.add(id(next((found for found in agreeing if id(found) not in taken), agreeing[0])))
        else:
            left.append(want)
    differing: dict[str, str] = {}
    uncompared: dict[str, str] = {}
    for want in left:
        key = _key(want.forms[0].shape)
        rest = [found for found in stock[key] if id(found) not in taken]
        if key in unread:
            uncompared[want.name] = f"the values of {unread[key]} are not read"
        elif not key:
            uncompared[want.name] = "it is a single number, of which a file holds many"
        elif not rest:
            uncompared[want.name] = "the file holds no further constant of its dimensions"
        else:
            nearest = min(rest, key=lambda found: _distance(want, found))
            taken.add(id(nearest))
            compared += 1
            differing[want.name] = _how(want, nearest)
    return WeightValues(compared=compared, differing=differing, uncompared=uncompared)


def _agrees(want: Stated, found: _Found) -> bool:
    return any(bool((np.abs(x - y) <= most).all()) for x, y, most in _pairs(want, found))


def _pairs(want: Stated, found: _Found, *, any_order: bool = False) -> Iterator[tuple[Floats, Floats, Floats]]:
    """Each form of the graph's weight beside the file's, in each order that the file may have it in, and the bound."""
    forms = want.forms
    if want.rows is not None and _is_integer(found) and found.weight.granularity is None:
        forms = (want.rows,)
    elif want.quantised is not None and _is_integer(found):
        forms = (want.quantised,)
    elif want.quantised is not None and want.rows is not None:
        forms = (*forms, want.quantised)  # a target that takes no such table holds what it stands for
    for folded, form in enumerate(forms):
        bound = _bound(form, want, found, FLOAT16 * (FOLDED if folded else 1))
        letters = found.weight.layout
        if letters is not None and len(letters) == found.values.ndim and not any_order:
            mine, theirs = _ordered(form, want.layout), _ordered(found.values, letters)
            if mine.shape == theirs.shape:
                yield mine, theirs, _ordered(bound, want.layout)
                continue
        mine, theirs = form.squeeze(), found.values.squeeze()
        for order in permutations(range(mine.ndim)):
            if mine.transpose(order).shape == theirs.shape:
                yield mine.transpose(order), theirs, bound.squeeze().transpose(order)


def _ordered(values: Floats, letters: str) -> Floats:
    """Outputs first, then inputs, then the kernel; without dimensions of one."""
    return values.transpose(sorted(range(len(letters)), key=lambda i: ORDER.index(letters[i]))).squeeze()


def _bound(form: Floats, want: Stated, found: _Found, float16: float) -> Floats:
    """How far each value may be off."""
    within = tuple(i for i, letter in enumerate(want.layout) if letter not in "OV")
    largest = np.abs(form).max(within, keepdims=True)
    bound = np.broadcast_to(largest * FLOAT32, form.shape)
    if _is_integer(found):
        if want.quantised is None:
            most = largest if found.weight.granularity == "per-channel" else largest.max()
            bound = bound + most / (7 if found.weight.dtype.endswith("int4") else 127) / 2 * SLACK
    elif found.weight.dtype == "float16" or are_halves(found.values):
        bound = bound + np.abs(form) * float16 + SMALLEST_HALF
    return bound.astype(np.float32)


def are_halves(values: Array) -> bool:
    """Whether float32 numbers were rounded to float16, as some delegates keep them."""
    with np.errstate(over="ignore"):
        return bool((values.astype(np.float16) == values).all())


def _is_integer(found: _Found) -> bool:
    return "int" in found.weight.dtype


def _how(want: Stated, found: _Found) -> str:
    """What is wrong with a weight, as far as it has a name."""
    if any(bool((np.abs(x - y) <= most).all()) for x, y, most in _pairs(want, found, any_order=True)):
        return "it is transposed"
    # The form and the order that are nearest.
    x, y, most = min(_pairs(want, found), key=lambda pair: float(np.abs(pair[0] - pair[1]).mean()))
    channels = x.reshape(len(x), -1), y.reshape(len(y), -1), most.reshape(len(most), -1)
    off = (np.abs(channels[0] - channels[1]) > channels[2]).any(1)
    if not channels[1][off].any():
        return f"{off.sum()} of its {len(x)} channels are zero"
    norm = np.maximum((channels[0] ** 2).sum(1), np.finfo(np.float32).tiny)
    factor = ((channels[0] * channels[1]).sum(1) / norm)[off]
    scaled = bool((np.abs(factor[:, None] * channels[0][off] - channels[1][off]) <= 2 * channels[2][off]).all())
    where = "" if off.all() else f"in {off.sum()} of its {len(x)} channels "
    if scaled:
        return f"{where}it is {factor[0]:.4g} times what it should be"
    largest = float(np.abs(channels[0] - channels[1]).max() / max(float(np.abs(x).max()), np.finfo(np.float32).tiny))
    return f"{where}it differs by up to {largest:.2g} of its largest value"


def _distance(want: Stated, found: _Found) -> float:
    return min((float(np.abs(x - y).mean()) for x, y, _ in _pairs(want, found)), default=np.inf)


def _key(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(n for n in shape if n != 1))
