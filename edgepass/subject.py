"""A subject: a model as it was captured, what its files are held against, and the data of both."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature

from torch import Tensor

from edgepass.errors import InputError, first_line
from edgepass.exporters import Job
from edgepass.exporters._capture import Program, capture, uncanonical
from edgepass.judging import batches, parity, recording
from edgepass.judging.candidate import Standard
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import ArtifactRecord, Manifest, Varying
from edgepass.quantize.recipe import Recipe
from edgepass.runtimes import Array, _memory
from edgepass.samples import Samples
from edgepass.task import FULL, Task

COMPARED = 8
"""Samples on which the captured program is held against the model."""
SAME_DB = 80.0
"""Between the model and its program; sums in another order cost less."""
CHANGED = (
    "torch.export changed the model: on the first evaluation samples {}; the files are held against the captured "
    "program, so find what the model does otherwise when it is exported (nn.TransformerEncoder's fast path, a branch "
    "on torch.compiler, something that it changes in forward and is no buffer)"
)

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is written and judged. `held` is what was run for reference: the model, or what torch.export made of it."""

    task: Task
    held: Task
    program: Program
    standard: Standard

    def job(self, recipe: Recipe) -> Job:
        """The program under a recipe, with the task's calibration data."""
        return Job(self.program, recipe, calibration(self.task, self.program))

    def manifest(self, records: Sequence[ArtifactRecord], bounds: Gates) -> Manifest:
        """What is written down of it, and of those of the records that are of its files."""
        batch = next((varying.high for varying, _ in self.program.varying if not varying.axis), None)
        return recording.manifest_of(
            self.task,
            self.standard,
            [record for record in records if record.method == self.task.method],
            bounds,
            batch,
            self.program.changed,
            [varying for varying, _ in self.program.lengths],
        )

    def keeping(self) -> "Subject":
        """The same, whose files keep its state themselves where they can. Raises InputError where it keeps none."""
        if not self.program.state:
            raise InputError(f"{self.task.source} keeps no state from call to call; leave out --keep-state")
        return replace(self, program=replace(self.program, keeps=True))


def prepare(
    task: Task,
    max_batch: int | None = None,
    dynamic: Sequence[Varying] = (),
    *,
    threads: int = 1,
    say: Say = lambda line: None,
) -> Subject:
    """Capture the model of a task, and run it on the evaluation data. Raises InputError and its kin."""
    say(f"capturing{task.method and f' {task.method}'}")
    task, program = captured(task, max_batch, dynamic)
    samples = evaluation(task)
    say(f"running {task.name}{task.method and f' {task.method}'} in torch on {len(samples)} samples")
    held, program, reference = settle(task, program, samples)
    standard = Standard(
        samples=samples,
        reference=reference,
        score=task.score,
        threads=threads,
        batches=batches.of(samples, reference, max_batch, held.reference, program.outputs, program.lengths),
        named=(program.inputs, program.outputs),
        method=task.method,
    )
    return Subject(task=task, held=held, program=program, standard=standard)


def prepare_all(
    task: Task,
    max_batch: int | None = None,
    dynamic: Sequence[Varying] = (),
    *,
    threads: int = 1,
    say: Say = lambda line: None,
) -> dict[str, Subject]:
    """The subject of each method of a task, by its name; "" of a model that has one. Raises InputError and its kin.

    A dimension that varies of an input which it names varies in the methods that have such an input.
    """
    names = {one.method: list(signature(one.module.forward).parameters) for one in task.each} if task.method else {}
    of_none = [v for v in dynamic if v.input and not any(v.input in known for known in names.values())]
    subjects: dict[str, Subject] = {}
    for one in task.each:
        own = [v for v in dynamic if v in of_none or not v.input or v.input in names.get(one.method, [v.input])]
        subjects[one.method] = prepare(one, max_batch, own, threads=threads, say=say)
    kept = {name: method for method, one in subjects.items() for name in one.program.state}
    if task.method and task.sequence and not kept:
        raise InputError(f"{task.source} keeps no state from call to call; leave out --sequence")
    for method, made in subjects.items():
        if read := [name for name in _read(made.program) if name in kept and name not in made.program.state]:
            raise InputError(
                f"{made.task.called} reads the buffer {read[0]}, which the method {kept[read[0]]} changes, and no "
                f"method of a file sees what another keeps; let {kept[read[0]]} give it, and {method} take it as an "
                "argument"
            )
    return subjects


def _read(program: Program) -> list[str]:
    """Names of the buffers that a program reads."""
    known = program.exported.graph_signature.inputs_to_buffers
    return [known[node.name] for node in program.exported.graph.nodes if node.name in known and node.users]


def captured(task: Task, max_batch: int | None, dynamic: Sequence[Varying] = ()) -> tuple[Task, Program]:
    """The program of a task, and the task with the state that it turns out to keep."""
    with _memory.bounded():
        program = capture(
            task.model, task.args, decompositions=task.decompositions, max_batch=max_batch, dynamic=dynamic
        )
    return task.stateful(program.state, program.args[len(task.args) :]), program


def calibration(task: Task, program: Program) -> Callable[[], Iterable[tuple[Tensor, ...]]] | None:
    """The arguments to calibrate with, state as `program` comes to it call by call; None where there are none."""
    samples = task.calibration
    if samples is None or not samples.state:
        return None if samples is None else partial(batches.calibration, samples, program.lengths)
    return partial(_carried, samples, program, task.called)


def _carried(samples: Samples, program: Program, source: str) -> Iterator[tuple[Tensor, ...]]:
    calls = 0
    try:
        for arguments, _ in samples.run(program.exported.module()):
            yield arguments
            calls += 1
    except (RuntimeError, IndexError) as error:
        why = f"raises {type(error).__name__} on calibration sample {calls}: {first_line(error)}"
        raise InputError(f"{source} {why}{FULL}") from None


def settle(task: Task, program: Program, samples: Samples) -> tuple[Task, Program, list[Array]]:
    """What files are held against, and its outputs: the model; or the captured program, where capture changed it.

    What torch.export itself changes is no file's fault, and said. What our canonical forms change is our own: the
    program is then taken without them. Both are looked for on the first of the samples.
    """
    reference = task.reference(samples)
    few = replace(samples, inputs=[x[:COMPARED] for x in samples.inputs], targets=None)
    bare = replace(task, model=program.bare or program.exported, score=None, what="the captured program")
    if apart := _apart([r[:COMPARED] for r in reference], bare.reference(few)):
        task, reference = bare, bare.reference(samples)
        program = replace(program, changed=CHANGED.format(apart))
    if program.bare is not None:
        try:
            canonical = replace(bare, model=program.exported).reference(few)
            apart = _apart([r[:COMPARED] for r in reference], canonical)
        except InputError as error:  # the bare program gives numbers, and this one none
            apart = str(error).partition(";")[0]  # what follows is advice to a user
        if apart:
            program = uncanonical(program, f"change this model: {apart}")
    return task, program, reference


def _apart(reference: list[Array], outputs: list[Array]) -> str:
    """In what some outputs are not others that should be the same; empty where they are."""
    if len(outputs) != len(reference):
        return f"it gives {len(outputs)} outputs where there were {len(reference)}"
    figures = [_figure(r, o) for r, o in zip(reference, outputs, strict=True)]
    worst = figures.index(min(figures))
    return f"output {worst} is {figures[worst]:.1f} dB from what it was" if figures[worst] < SAME_DB else ""


def _figure(reference: Array, output: Array) -> float:
    """Centred SQNR where there is one, in dB, and SAME_DB where float32 can reach no more."""
    if reference.shape != output.shape:
        return -parity.SQNR_CAP_DB
    (found,) = parity.compare(reference, output).outputs
    if found.whole is None:
        return found.sqnr_db
    reached = found.whole.centred_db >= parity.reachable(SAME_DB, found.whole.ceiling_db)
    return max(found.whole.centred_db, SAME_DB) if reached else found.whole.centred_db


def evaluation(task: Task) -> Samples:
    """The evaluation samples; every task has some by now."""
    if task.evaluation is None:
        raise InputError(f"{task.source} came without evaluation data; give --eval-data or get_eval_data()")
    return task.evaluation
