"""A file to judge, and what it is judged by."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgepass.judging import expected, operations, parity
from edgepass.judging.batches import Batch
from edgepass.judging.comparison import Comparison, compare
from edgepass.judging.expected import Expected
from edgepass.judging.manifest import AtBatch, Fallback, Kept
from edgepass.judging.parity import Agreement
from edgepass.judging.score import Score
from edgepass.quantize.audit import Requested
from edgepass.quantize.recipe import Recipe
from edgepass.quantize.weights import Stated
from edgepass.runtimes import Array
from edgepass.samples import Samples


@dataclass(frozen=True, kw_only=True)
class Yardstick:
    """The float32 model as a file of the same target, run in the same way: what memory and latency are held against.

    `kept`, `agreed`: how well it keeps the float32 model, which no recipe excuses.
    """

    bytes: int
    peak_bytes: int
    p50_us: float
    p95_us: float
    kept: Sequence[Kept] = ()
    agreed: Sequence[Agreement] = ()
    batches: Sequence[AtBatch] = ()


@dataclass(frozen=True, kw_only=True)
class Standard:
    """What files are judged by: the evaluation samples, the reference's outputs on them, and the metric."""

    samples: Samples
    reference: list[Array]
    score: Score | None
    threads: int = 1
    batches: Sequence[Batch] = ()
    """The other sizes of a batch that varies."""
    keeps: bool = False
    """Whether files keep the model's state themselves, and neither take nor give it."""
    named: tuple[Sequence[str], Sequence[str]] = ((), ())
    """What the model calls its inputs and its outputs; nothing where it has no names for them."""
    method: str = ""
    """The name of the method that files are held to here, where the model has several."""

    @cached_property
    def comparison(self) -> tuple[Comparison | None, list[str]]:
        """The metric that files are held to, and what a reader should know of it. Raises InputError."""
        return compare(self.score, self.samples, self.own(self.reference), self.outputs)

    def own(self, outputs: list[Array]) -> list[Array]:
        """The outputs that are the model's own, without its state, which comes last."""
        return outputs[: len(outputs) - len(self.state)]

    @property
    def state(self) -> list[Array]:
        """What files are fed with besides their inputs in the first call."""
        return [] if self.keeps else self.samples.state

    @cached_property
    def keeping(self) -> "Standard":
        """The same for files that keep state themselves."""
        given = len(self.samples.inputs)
        inputs, outputs = self.named
        reference = self.own(self.reference)
        named = (inputs[:given], outputs[: len(reference)])
        return replace(self, keeps=True, reference=reference, named=named)

    @property
    def arguments(self) -> list[Array]:
        """What files are called with, [samples, ...] each; of the state what it begins with, alone."""
        return [*self.samples.inputs, *(x[None] for x in self.state)]

    @property
    def inputs(self) -> Sequence[str]:
        """Their names."""
        return self.named[0] or [f"input_{number}" for number in range(len(self.arguments))]

    @property
    def outputs(self) -> Sequence[str]:
        """Their names."""
        return self.named[1] or parity.names(len(self.reference))

    @property
    def rows(self) -> NDArray[np.intp]:
        """Of the samples, those that graphs and float32 files are run on."""
        return self.samples.rows(expected.ROWS)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A file to judge, and what is known about it from elsewhere. `fresh`: written just now, here."""

    path: Path
    target: str
    runtime: str
    recipe: Recipe | None
    requested: Sequence[Requested] = ()
    stated: Sequence[Stated] = ()
    """The weights that it must hold; none of a file made elsewhere."""
    fallbacks: Sequence[Fallback] = ()
    notes: Sequence[str] = field(default_factory=tuple)
    graph: operations.Graph | None = None
    """Of a static recipe, whose int8 tensors the file has too; None for any other."""
    expected: Expected | None = None
    """What the recipe's own graph gives; None for a file made elsewhere."""
    fresh: bool = False
    keeps: bool = False
    """Whether it keeps the model's state itself, until it is loaded anew."""
    method: str = ""
    """Which method of the file is judged, where it has several."""
