"""Runtimes: what executes an artifact on this host. One per file; each file *is* a Runtime.

A runtime knows files, never exporters, so a file made elsewhere can be judged. It is only ever called inside the child
process of `_child.py`, because it is native code fed with a file: edgepass itself never imports one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from edgepass import catalog
from edgepass.judging.manifest import Evidence, Fallback, TensorSpec, Weight

Array = NDArray[np.generic]


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
    content_sha256: str | None = None
    """Equal for equal models, for a format in which two conversions of one model differ in bytes."""


class Session(Protocol):
    """A loaded file. `evidence` says what carries it out."""

    @property
    def evidence(self) -> Evidence: ...

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """Run once. Takes and gives arrays in the float model's dtypes: integer I/O is converted inside."""
        ...


class Runtime(Protocol):
    """What a module of this package offers."""

    extra: str
    """The pip extra that brings it."""
    suffix: str
    """Ending of the files it runs, with the dot."""

    def prepare(self, path: Path) -> None:
        """Import what running this file needs, so that none of it counts as the file's memory."""
        ...

    def load(self, path: Path, threads: int) -> Session: ...

    def inspect(self, path: Path) -> Contents: ...


def runtime(name: str) -> Runtime:
    """The runtime called `name`. Raises UnknownNameError."""
    return cast(Runtime, catalog.load("runtimes", name))  # a module is one by what it holds, which no type checker sees
