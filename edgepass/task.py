"""A task: the model to export with the data that calibrates and judges it, whatever it was made from."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from edgepass.calling import Call
from edgepass.errors import InputError, first_line
from edgepass.judging.manifest import DataInfo, Metric
from edgepass.judging.score import Score
from edgepass.runtimes import Array
from edgepass.runtimes import _memory as memory
from edgepass.samples import Samples, synthetic
from edgepass.state import Explicit, restored

FULL = "; its state may hold no more calls than these, then let it begin anew after so many with --sequence"
"""Said of a model that raises in the midst of a sequence."""
FORWARD = "forward"
"""The method that a file runs unasked where it has no other."""
MOST_STATE = 1 << 30
"""Bytes of state over all evaluation samples: what each call leaves is compared."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """All that an export needs to know about what the user gave."""

    name: str
    source: str
    model: nn.Module | ExportedProgram
    args: tuple[Tensor, ...]
    call: Call | None = None
    """How its user calls the model, which takes `args`; None where that is the same."""
    calibration: Samples | None = None
    evaluation: Samples | None = None
    score: Score | None = None
    """The metric; None where the evaluation data are to tell."""
    get_metric: Callable[[], Any] | None = None
    """What gives the metric of a user's file; asked for when data are."""
    decompositions: Mapping[Any, Callable[..., Any]] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    levels: tuple[float, ...] = ()
    """Of a forecaster that gives several, [..., levels, horizon, columns]."""
    baselines: list[Metric] = field(default_factory=list)
    data: list[DataInfo] = field(default_factory=list)
    """What else took part, such as the training data."""
    seed: int = 0
    what: str = "the float32 model itself"
    """What is run for reference, in a sentence."""
    title: str = ""
    """What the model is, for a heading, where that is more than its name."""
    step: float | None = None
    """Seconds between the rows of a forecaster's series."""
    scales: tuple[float, ...] = ()
    """What the errors of each series are counted in."""
    state: tuple[str, ...] = ()
    """Names of the buffers that the model keeps state in, its last arguments and outputs."""
    sequence: int | None = None
    """Calls after which that begins anew; None where it never does."""
    method: str = ""
    """The name of the method that it is of, which `model` then does when it is called; empty for its forward alone."""
    others: tuple["Task", ...] = ()
    """The model's other methods, each as a task; this one is what a file runs unasked."""

    def __post_init__(self) -> None:
        """Raises InputError for calibration data that are no numbers: every range taken from them would be none."""
        for index, array in enumerate(self.calibration.inputs if self.calibration else []):
            bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
            if bad.any():
                raise InputError(
                    f"the calibration data hold NaN or infinity in input {index} of {int(bad.sum())} of {len(array)} "
                    f"samples, first of {int(bad.argmax())}; mend the data"
                )

    @property
    def each(self) -> tuple["Task", ...]:
        """The task of each method, in order."""
        return (replace(self, others=()), *self.others)

    def mapped(self, change: Callable[["Task"], "Task"]) -> "Task":
        """With each method's changed."""
        return Task.of_methods(map(change, self.each))

    @staticmethod
    def of_methods(tasks: Iterable["Task"]) -> "Task":
        """One task of those of a model's methods; forward, alone, has no name."""
        first, *others = tasks
        return replace(
            first, others=tuple(others), method="" if first.method == FORWARD and not others else first.method
        )

    @property
    def called(self) -> str:
        """What it is called in a sentence."""
        return f"{self.source}, method {self.method}," if self.method else self.source

    def stateful(self, names: Sequence[str], initial: Sequence[Tensor]) -> "Task":
        """The same with what the model keeps in the buffers `names` as arguments and outputs, and data in sequence.

        Raises InputError where it keeps nothing, and sequences are asked for.
        """
        if not names and self.sequence and not self.method:  # another may keep some
            raise InputError(f"{self.source} keeps no state from call to call; leave out --sequence")
        if not names:
            return replace(self, sequence=None)
        state = [value.numpy() for value in initial]
        held = sum(value.nbytes for value in state)
        calls = len(self.evaluation) if self.evaluation else 0
        if calls * held > MOST_STATE:
            raise InputError(
                f"{self.called} keeps {held / 2**20:.3g} MiB of state, of which {calls:,} evaluation samples would be "
                f"{calls * held / 2**30:.3g} GiB; give {max(MOST_STATE // held, 1):,} or fewer, with --eval-samples"
            )
        return replace(
            self,
            model=Explicit(self.module, names),
            calibration=self.calibration and self.calibration.sequence(state, self.sequence),
            evaluation=self.evaluation and self.evaluation.sequence(state, self.sequence),
            state=tuple(names),
        )

    @property
    def module(self) -> nn.Module:
        """The model as a module in evaluation mode."""
        return self.model.module() if isinstance(self.model, ExportedProgram) else self.model.eval()

    @memory.bounded()
    def reference(self, samples: Samples) -> list[Array]:
        """Outputs of the float32 model in eager torch: one array [n, *shape] per output.

        Raises InputError when the model raises, gives no number, or gives NaN or infinity.
        """
        module = self.module
        rows: list[list[Array]] = []
        try:
            with torch.inference_mode(), restored(module):
                rows += (outputs for _, outputs in samples.run(module))
        except (Exception, SystemExit) as error:
            why = f"raises {type(error).__name__} on evaluation sample {len(rows)}: {first_line(error)}"
            raise InputError(f"{self.called} {why}{FULL if self.state and rows else ''}") from None
        if len({tuple(y.shape for y in row) for row in rows}) > 1:
            raise InputError(f"{self.called} gives outputs of different shapes for samples of one shape; a file cannot")
        outputs = [np.ascontiguousarray(np.stack(column)) for column in zip(*rows, strict=True)]
        for number, output in enumerate(outputs):
            bad = ~np.isfinite(output.reshape(len(output), -1)).all(axis=1)
            if bad.any():
                raise InputError(
                    f"{self.what} gives NaN or infinity in output {number} for {int(bad.sum())} of "
                    f"{len(output)} evaluation samples, first for {int(bad.argmax())}; mend the model or the data"
                )
        return outputs


def refuse_scripted(model: Any, source: str) -> None:
    """Raise InputError for a TorchScript module, of which torch.export sees nothing."""
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError(
            f"{source} is a TorchScript module, which torch.export cannot look into; give the torch.nn.Module that it "
            "was scripted or traced from, or build one of that class and load the weights into it, "
            "module.load_state_dict(scripted.state_dict())"
        )


def stand_in(task: Task, seed: int) -> Samples:
    """What a model that came without data is judged on; its integers vary where it takes them so."""
    drawn, repeated = synthetic(task.args, seed), synthetic(task.args, seed, draw=False)
    if all(np.array_equal(*both) for both in zip(drawn.inputs, repeated.inputs, strict=True)):
        return repeated
    try:  # columns may each have a vocabulary of their own, and offsets an order
        with chdir("."):  # which the model's forward may change
            task.reference(drawn)
    except InputError:
        return repeated
    return drawn
