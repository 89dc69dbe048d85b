"""Runtimes: what executes an artifact on this host. One per file; each file *is* a Runtime.

A runtime knows files, never exporters, so a file made elsewhere can be judged. It is only ever called inside the child
process of `_child.py`, because it is native code fed with a file: edgepass itself never imports one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from edgepass import catalog
from edgepass.errors import ArtifactError
from edgepass.judging.manifest import Evidence, Fallback, TensorSpec, Weight

Array = NDArray[np.generic]
Held = tuple[Weight, Array | None]
"""A weight of a file, and what it stands for."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a file holds, read from its bytes.

    `planned_bytes`: the activation memory that the file's own plan (or a lifetime analysis of its graph) asks for.
    `flops`: multiply-adds times two of the matrix operations in the graph, by operation name.
    `delegated_flops`: share of `flops` inside accelerated backends; None where the format has no such notion.
    """

    format: str
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    weights: list[Weight]
    ops: dict[str, int]
    planned_bytes: int | None = None
    flops: dict[str, int] = field(default_factory=dict)
    delegated_flops: float | None = None
    fallbacks: list[Fallback] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    values: list[Array | None] = field(default_factory=list)
    """What each of `weights` stands for: float32 in its stored shape, None where the file does not say; empty where it
    was not asked for."""
    beside: list[str] = field(default_factory=list)
    """Names of the other files in its folder that the model consists of."""
    content_sha256: str | None = None
    """Equal for equal models, for a format in which two conversions of one model differ in bytes."""
    methods: list[str] = field(default_factory=list)
    """Names of the methods in the file, where it has names for them; the rest is of one of these."""


def dequantized(
    integers: NDArray[Any], scale: Any, zero: Any = 0, *, axis: int | None = None, block: int = 0
) -> NDArray[np.float32]:
    """What quantised numbers stand for: (q - zero) scale, in float32 as runtimes compute it.

    `scale` and `zero` are one number, or one for each index of `axis`, or for each `block` of them there.
    """

    def along(value: Any) -> NDArray[Any]:
        each: NDArray[Any] = np.asarray(value)
        if each.size > 1 and block and axis is not None:
            each = np.repeat(each, block, axis=axis)[tuple(slice(n) for n in integers.shape)]
        elif each.size > 1:
            each = each.reshape([-1 if i == (axis or 0) % integers.ndim else 1 for i in range(integers.ndim)])
        return each if each.size > 1 else each.reshape(())

    shifted = integers.astype(np.int64) - along(zero).astype(np.int64)
    return shifted.astype(np.float32) * along(scale).astype(np.float32)


def method_of(path: Path, asked: str, held: Sequence[str], default: str = "") -> str:
    """The name of the method `asked` for among those that a file has; `default` where none is.

    Raises ArtifactError where there is no such method.
    """
    if asked and asked not in held:
        there = f"it has {', '.join(held)}" if held else "it has one, which has no name"
        raise ArtifactError(f"{path} has no method {asked!r}; {there}")
    return asked or default


def plain(numbers: NDArray[Any]) -> NDArray[np.float32] | None:
    """What numbers without a scale stand for: themselves, where they are fractions or int8; None of what may count."""
    return numbers.astype(np.float32) if numbers.dtype.kind == "f" or numbers.dtype == np.int8 else None


class Session(Protocol):
    """A loaded file, or one method of it. `evidence` says what carries it out."""

    @property
    def evidence(self) -> Evidence: ...

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """Run once. Takes and gives arrays in the float model's dtypes: integer I/O is converted inside."""
        ...


@dataclass(frozen=True, kw_only=True)
class Place:
    """An int8 tensor of a file: its integers q stand for (q - zero) scale.

    `scales`: by which they are made, and by which they are read; a converter may carry a factor of the one on into what
    comes before. `reads`: numbers of the places that it is made of. `moves`: whether it is made of them as they are.
    """

    scales: frozenset[float]
    zero: int
    reads: frozenset[int]
    moves: bool = False


class Cut(Protocol):
    """A loaded file that shows its int8 tensors."""

    places: list[Place]

    def __call__(self, inputs: Sequence[Array], given: Sequence[Array] | None) -> tuple[list[Array], list[Array]]:
        """The integers made at each place, and the outputs; what lies behind a place reads `given`, where there is."""
        ...


class Runtime(Protocol):
    """What a module of this package offers.

    A `method` is one of those that a file of several has, by its name; without one it is the first, or what the format
    takes without a name.
    """

    extra: str
    """The pip extra that brings it."""
    suffix: str
    """Ending of the files it runs, with the dot."""

    def prepare(self, path: Path) -> None:
        """Import what running this file needs, so that none of it counts as the file's memory."""
        ...

    def load(self, path: Path, threads: int, method: str = "") -> Session: ...

    def inspect(self, path: Path, method: str = "") -> Contents: ...

    prepare_reading: Callable[[], None] | None
    """Import no more than reading a file needs, in a process that converts nothing; None where `inspect` does so."""

    cut: Callable[[Path, int, str], Cut] | None
    """Load a method of a file so that it shows its int8 tensors; None for what shows nothing between its ends."""


def runtime(name: str) -> Runtime:
    """The runtime called `name`. Raises UnknownNameError."""
    return cast(Runtime, catalog.load("runtimes", name))  # a module is one by what it holds, which no type checker sees
