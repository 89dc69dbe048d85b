"""What outputs and targets are to each other, told by shapes, dtypes and the float model's outputs; never guessed.

Shapes: N samples, K classes or labels, P places (pixels, time steps …).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgepass.errors import InputError
from edgepass.judging.metrics._measure import Floats, Truth
from edgepass.runtimes import Array

Classes = NDArray[np.int64]
ADVICE = "give targets that fit, or a metric of your own"


def values(name: str, outputs: Array, truth: Truth) -> tuple[Floats, Floats]:
    """Outputs and targets as numbers of one shape [N, ...], in the units that errors are told in.

    Of a forecast of several levels, its median. Raises InputError where they do not fit.
    """
    targets = truth.targets.astype(np.float64)
    if truth.levels and outputs.size == targets.size * len(truth.levels):
        outputs = outputs.reshape(len(targets), len(truth.levels), *targets.shape[1:])
        outputs = outputs[:, truth.levels.index(0.5)]
    if not alike(outputs, targets):
        raise InputError(f"{name} compares each output with a target, but {_shapes(outputs, targets)}; {ADVICE}")
    scale = np.asarray(truth.scale or 1.0)
    return outputs.reshape(targets.shape).astype(np.float64) / scale, targets / scale


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Outputs read as classes, or as labels that each hold or not."""

    targets_NP: Classes
    """Class numbers; for labels 0 or 1, and P is the number of labels."""
    classes: int
    """How many; 1 for labels."""
    labels: int
    """Labels that a macro average is over; 1 where all places are of one label, 0 where that cannot be known."""
    answers: Callable[[Array], Classes]
    """Outputs as `targets_NP` is."""
    scores: Callable[[Array], Floats] | None
    """Outputs as scores [N, K, P], higher for the class; None of outputs that are class numbers."""
    reads: str


def labelled(name: str, truth: Truth) -> Labelled:
    """How the float model's outputs answer targets that are classes. Raises InputError where they cannot."""
    reference, targets = truth.reference, truth.targets
    if not whole(targets):
        raise InputError(f"{name} needs targets that are class numbers, but they are {_told(targets)}; {ADVICE}")
    targets_NP = targets.reshape(len(targets), -1).astype(np.int64)
    scored = _is_float(reference)
    axes = class_axes(reference, targets) if scored else []
    if len(axes) > 1:
        raise InputError(
            f"{name}: classes may lie along axis {axes[0]} or {axes[1]} of outputs {_told(reference)} for targets "
            f"{_told(targets)}, and nothing tells which; give a metric of your own"
        )
    if axes:
        return _of_classes(name, reference, targets_NP, axes[0])
    if not alike(reference, targets):
        raise InputError(
            f"{name} needs outputs [N, classes, ...] for targets [N, ...], or outputs shaped as the targets, "
            f"but {_shapes(reference, targets)}; {ADVICE}"
        )
    if two(targets) and (scored or reference.dtype == np.bool_):
        return _of_labels(name, reference, targets, targets_NP)
    if not whole(reference):
        raise InputError(
            f"{name} needs one score for each class, or class numbers, but outputs {_told(reference)} are neither for "
            f"targets from {targets.min()} to {targets.max()}; name a metric of numbers such as mse, or {ADVICE}"
        )
    return _of_numbers(name, reference, targets_NP)


def class_axes(outputs: Array, targets: Array) -> list[int]:
    """Axes of outputs that may hold the scores of classes, of which targets have one number: 1, the last, or both."""
    found = []
    for axis in dict.fromkeys((1, outputs.ndim - 1)):
        if 0 < axis < outputs.ndim and outputs.shape[axis] > 1:
            rest = outputs.shape[1:axis] + outputs.shape[axis + 1 :]
            if len(outputs) == len(targets) and _bare(rest) == _bare(targets.shape[1:]):
                found.append(axis)
    return found


def alike(outputs: Array, targets: Array) -> bool:
    """Whether there is one output to each target; dimensions of 1 say nothing."""
    return len(outputs) == len(targets) and _bare(outputs.shape[1:]) == _bare(targets.shape[1:])


def whole(array: Array) -> bool:
    """Whether it holds integers only, whatever their dtype."""
    return not _is_float(array) or bool((array == np.rint(array.astype(np.float64))).all())


def two(array: Array) -> bool:
    """Whether it holds nothing but 0 and 1."""
    return bool(((array == 0) | (array == 1)).all())


def probabilities(reference: Array) -> bool:
    """Whether scores are probabilities, as torchmetrics tells it: none is outside 0 … 1."""
    return bool(reference.min() >= 0 and reference.max() <= 1)


def _of_classes(name: str, reference: Array, targets_NP: Classes, axis: int) -> Labelled:
    count = reference.shape[axis]
    _in_range(name, targets_NP, count)
    logits = not probabilities(reference)

    def apart(outputs: Array) -> Floats:
        scores_NKP = np.moveaxis(outputs, axis, 1).reshape(len(outputs), count, -1)
        return scores_NKP.astype(np.float64, copy=False)

    def scores(outputs: Array) -> Floats:
        scores_NKP = apart(outputs)
        if not logits:
            return scores_NKP
        exponent_NKP = np.exp(scores_NKP - scores_NKP.max(axis=1, keepdims=True))
        return np.asarray(exponent_NKP / exponent_NKP.sum(axis=1, keepdims=True), np.float64)

    return Labelled(
        targets_NP=targets_NP,
        classes=count,
        labels=1,
        answers=lambda outputs: apart(outputs).argmax(axis=1),
        scores=scores,
        reads=f"the largest of {count} scores along axis {axis}",
    )


def _of_labels(name: str, reference: Array, targets: Array, targets_NP: Classes) -> Labelled:
    places = targets_NP.shape[1]
    if places > 1 and reference.ndim == 2 and (targets_NP.sum(axis=1) == 1).all() and len(targets) > 1:
        raise InputError(
            f"{name}: exactly one of {places} targets is 1 in every sample, so they may be one-hot classes or labels; "
            "give class numbers as targets, or a metric of your own"
        )
    threshold = 0.5 if probabilities(reference) else 0.0
    shape = reference.shape[1:]
    # [N, labels] is of labels and [N, 1, ...] is of one; what axis 1 of [N, A, B ...] means nobody can tell.
    labels = 1 if places == 1 or shape[0] == 1 else places if len(shape) == 1 else 0
    kind = "probabilities" if threshold else "logits"
    return Labelled(
        targets_NP=targets_NP,
        classes=1,
        labels=labels,
        answers=lambda outputs: np.greater(outputs.reshape(len(outputs), -1), threshold).astype(np.int64),
        scores=lambda outputs: outputs.reshape(len(outputs), 1, -1).astype(np.float64),
        reads=f"{kind}, yes above {threshold:g}",
    )


def _of_numbers(name: str, reference: Array, targets_NP: Classes) -> Labelled:
    count = int(max(targets_NP.max(), reference.max())) + 1
    _in_range(name, targets_NP, count)
    return Labelled(
        targets_NP=targets_NP,
        classes=count,
        labels=1,
        answers=lambda outputs: np.rint(outputs).reshape(len(outputs), -1).astype(np.int64),
        scores=None,
        reads="class numbers",
    )


def _in_range(name: str, targets_NP: Classes, count: int) -> None:
    low, high = int(targets_NP.min()), int(targets_NP.max())
    if low < 0 or high >= count:
        raise InputError(
            f"{name} of {count} classes needs targets from 0 to {count - 1}, but they are from {low} to {high}; "
            "leave out what is to be ignored, or give a metric of your own"
        )


def _bare(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _is_float(array: Array) -> bool:
    return bool(np.issubdtype(array.dtype, np.floating))


def _told(array: Array) -> str:
    return f"{array.dtype}{list(array.shape)}"


def _shapes(outputs: Array, targets: Array) -> str:
    return f"outputs are {_told(outputs)} and targets {_told(targets)}"
