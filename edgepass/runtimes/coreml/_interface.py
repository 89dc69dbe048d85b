"""Which inputs and outputs a Core ML package declares, and which shapes of them it takes."""

from typing import Any

from edgepass.errors import InputError
from edgepass.judging.manifest import TensorSpec

# Core ML's ArrayDataType, FeatureTypes.proto.
_ARRAY_TYPES = {65568: "float32", 65600: "float64", 65552: "float16", 131104: "int32", 131080: "int8"}

Range = tuple[int, int]
"""Smallest and largest size of a dimension; a largest of -1 is no bound."""


def spec(feature: Any) -> TensorSpec:
    """A declared input or output. An image, which no tool here makes, has its kind for a type and no shape."""
    if feature.type.WhichOneof("Type") != "multiArrayType":
        return TensorSpec(name=feature.name, shape=(), dtype=str(feature.type.WhichOneof("Type")).removesuffix("Type"))
    array = feature.type.multiArrayType
    shape = tuple(low if low == high else None for low, high in _ranges(array))
    for other in array.enumeratedShapes.shapes:
        shape = tuple(d if d == e else None for d, e in zip(shape, other.shape, strict=True))
    return TensorSpec(name=feature.name, shape=shape, dtype=_ARRAY_TYPES.get(array.dataType, "unknown"))


def check(feature: Any, shape: tuple[int, ...]) -> None:
    """Raise InputError for a shape outside the declared ranges or choices: Apple's runtime would refuse it too."""
    array = feature.type.multiArrayType
    if not array.shape:
        return
    choices = [[(d, d) for d in s.shape] for s in array.enumeratedShapes.shapes] or [_ranges(array)]
    if not any(len(shape) == len(c) and all(_within(d, r) for d, r in zip(shape, c, strict=True)) for c in choices):
        taken = " or ".join(f"[{', '.join(map(_text, choice))}]" for choice in choices)
        raise InputError(f"input {feature.name!r} has shape {list(shape)}; the file takes {taken}")


def _ranges(array: Any) -> list[Range]:
    flexible = [(r.lowerBound, r.upperBound) for r in array.shapeRange.sizeRanges]
    return flexible or [(d, d) for d in array.shape]


def _within(size: int, allowed: Range) -> bool:
    low, high = allowed
    return size >= low and (high < 0 or size <= high)


def _text(allowed: Range) -> str:
    low, high = allowed
    return str(low) if low == high else f"{low} or more" if high < 0 else f"{low} to {high}"
