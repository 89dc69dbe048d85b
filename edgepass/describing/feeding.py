"""Feeding: what a file is run on when it comes alone: golden samples beside it, zeros, or noise of its own shapes."""

import math
from pathlib import Path

import numpy as np

from edgepass.arrays import named_arrays
from edgepass.errors import ArtifactError, InputError
from edgepass.judging.figures import size
from edgepass.judging.manifest import GOLDEN, TensorSpec, prefix
from edgepass.runtimes import Array, _memory
from edgepass.samples import natural

COPIES = 3
"""Of the inputs in memory: themselves, and twice where they are handed to a child."""
MOST_DIMS = 64
"""Of an array of numpy's."""


def golden(file: Path, *, fed: bool = True, method: str = "") -> list[Array] | None:
    """The golden inputs [samples, *input shape] beside a file; None where there are none, or none of its method.

    fed: whether the file takes state, which begins each sequence; it follows the inputs, the same for every sample.
    Raises InputError where they cannot be read.
    """
    path = file.parent / GOLDEN
    if not path.is_file():
        return None
    try:
        tensors = named_arrays(path)
    except InputError as error:
        raise InputError(f"{error}; export again, or take it away") from None
    of = prefix(method)
    if of and any(key.startswith(f"{of}input_") for key in tensors):
        tensors = {key.removeprefix(of): x for key, x in tensors.items() if key.startswith(of)}
    elif not any(key.startswith("input_") for key in tensors) and any(".input_" in key for key in tensors):
        return None  # of other methods
    inputs, states = (
        [tensors[key] for key in sorted(tensors, key=natural) if key.startswith(kind)] for kind in ("input_", "state_")
    )
    if not inputs or any(x.ndim == 0 or len(x) == 0 for x in inputs):
        raise InputError(f"{path} holds no inputs, as input_0, to run {file.name} on; export again, or take it away")
    return [*inputs, *(np.repeat(x[None], len(inputs[0]), axis=0) for x in states if fed)]


def read(data: Path, file: Path, inputs: list[TensorSpec]) -> list[Array]:
    """The arrays of an .npz or .safetensors, [samples, *input shape] each, for the inputs of a file in their order.

    They go by the names of the inputs where they have these, else in the order of their own. Raises InputError.
    """
    arrays = named_arrays(data)
    names = [spec.name for spec in inputs]
    order = names if set(names) == set(arrays) else sorted(arrays, key=natural)
    if len(order) != len(inputs):
        raise InputError(f"{data} holds {len(order)} arrays, and {file} takes {len(inputs)} inputs; give one for each")
    return [arrays[name] for name in order]


def zeros(file: Path, inputs: list[TensorSpec]) -> list[Array]:
    """One sample for inputs of the shapes that a file says it has; ArtifactError where there is no room for it."""
    return [np.zeros(shape, dtype=kind) for shape, kind in _shapes(file, inputs, 1)]


def noise(file: Path, inputs: list[TensorSpec], samples: int, seed: int) -> list[Array]:
    """Standard normal numbers for inputs of those shapes, and zeros for integers and truth values, which are no noise.

    Raises ArtifactError where there is no room for them.
    """
    generator = np.random.default_rng(seed)
    return [
        generator.standard_normal(shape).astype(kind) if kind.kind == "f" else np.zeros(shape, dtype=kind)
        for shape, kind in _shapes(file, inputs, samples)
    ]


def _shapes(file: Path, inputs: list[TensorSpec], samples: int) -> list[tuple[tuple[int, ...], np.dtype[np.generic]]]:
    """Of arrays that such inputs may be; what varies is 1."""
    shapes = [(samples, *(n or 1 for n in t.shape)) for t in inputs]
    impossible = f"{file} takes inputs of a kind that zeros cannot be made for"
    try:
        kinds = [np.dtype(t.dtype) for t in inputs]
    except TypeError:
        raise ArtifactError(impossible) from None
    if any(kind.kind not in "biuf" for kind in kinds) or any(
        min(shape) < 0 or len(shape) > MOST_DIMS for shape in shapes
    ):
        raise ArtifactError(impossible)
    wanted = sum(math.prod(shape) * kind.itemsize for shape, kind in zip(shapes, kinds, strict=True))
    free = _memory.available()
    if COPIES * wanted > free:
        raise ArtifactError(
            f"{file} takes inputs of {size(wanted)}, and running it takes {COPIES} times that where {size(free)} are "
            "free; free some memory, or make the inputs of the model smaller"
        )
    return list(zip(shapes, kinds, strict=True))
