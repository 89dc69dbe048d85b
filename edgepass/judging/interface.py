"""The interface: inputs and outputs as an app sees them in the file, beside what the model takes and gives.

A shape is the model's, but for a scalar, which some formats can only give as one element of a vector. A type may be
narrower or wider of its kind, and is then told; whole numbers for fractions, or another order of axes, are another
model.
"""

from collections.abc import Sequence
from pathlib import Path

from edgepass.errors import ArtifactError
from edgepass.judging.manifest import InputSpec, OutputSpec, TensorSpec
from edgepass.runtimes import Array

SCALARS = ((), (1,))
_KINDS = {"b": "integer", "i": "integer", "u": "integer", "f": "float"}


def outputs(declared: Sequence[TensorSpec], given: Sequence[Array], reference: Sequence[Array]) -> list[OutputSpec]:
    """Every output of a file, as far as it and the model have equally many; arrays are [samples, *output shape]."""
    return [
        OutputSpec(
            name=spec.name,
            shape=_seen(spec.shape, y.shape[1:]),
            dtype=spec.dtype,
            model_shape=r.shape[1:],
            model_dtype=str(r.dtype),
        )
        for spec, y, r in zip(declared, given, reference, strict=False)
    ]


def inputs(declared: Sequence[TensorSpec], given: Sequence[Array]) -> list[InputSpec]:
    """Every input of a file beside the arrays [samples, *input shape] that the model takes."""
    return [
        InputSpec(
            name=spec.name, shape=_seen(spec.shape, x.shape[1:]), dtype=spec.dtype,
            model_shape=x.shape[1:], model_dtype=str(x.dtype),
        )
        for spec, x in zip(declared, given, strict=False)
    ]  # fmt: skip


def notes(seen: Sequence[OutputSpec]) -> list[str]:
    """A sentence for each input or output that an app sees in another shape or type than the model's."""
    return [
        f"{o.name} is {o.dtype}{_text(o.shape)} in the file, {o.model_dtype}{_text(o.model_shape)} in the model"
        for o in seen
        if o.dtype != o.model_dtype or not _fits(o)
    ]


def aligned(given: Sequence[Array], reference: Sequence[Array], path: Path) -> list[Array]:
    """The outputs in the reference's shapes, all [samples, *output shape].

    Raises ArtifactError that names the first output which is not the model's in shape or kind of number.
    """
    if len(given) != len(reference):
        raise ArtifactError(
            f"{path} gives {len(given)} outputs, the model {len(reference)}; they are not the same model"
        )
    for index, (y, r) in enumerate(zip(given, reference, strict=True)):
        same = y.shape == r.shape or {y.shape[1:], r.shape[1:]} == set(SCALARS)
        if not same or _kind(y) != _kind(r):
            raise ArtifactError(
                f"{path} gives {y.dtype}{_text(y.shape[1:])} for output {index} of the model, "
                f"which is {r.dtype}{_text(r.shape[1:])}; a file with another interface is another model"
            )
    return [y.reshape(r.shape) for y, r in zip(given, reference, strict=True)]


def _seen(declared: tuple[int | None, ...], given: tuple[int, ...]) -> tuple[int | None, ...]:
    """The shape that came, with the dimensions that the file declares to vary left open."""
    if len(declared) != len(given):
        return given
    return tuple(None if open_ is None else size for open_, size in zip(declared, given, strict=True))


def _fits(seen: OutputSpec) -> bool:
    """Whether the shapes agree, a dimension of the file that may vary with any."""
    return len(seen.shape) == len(seen.model_shape) and all(
        mine is None or mine == theirs for mine, theirs in zip(seen.shape, seen.model_shape, strict=True)
    )


def _kind(array: Array) -> str:
    return _KINDS.get(array.dtype.kind, array.dtype.kind)


def _text(shape: Sequence[int | None]) -> str:
    return f"[{', '.join('n' if n is None else str(n) for n in shape)}]"
