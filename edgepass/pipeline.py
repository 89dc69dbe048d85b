"""The whole story on one page: a model and a budget in, judged files out."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

from torch import Tensor
from torch._ops import OpOverload

import edgepass.exporters as exporters
from edgepass import catalog, ranges, staging
from edgepass.calling import Call
from edgepass.errors import (
    ABSENT,
    ArtifactError,
    DeviceOnlyError,
    EdgepassError,
    InputError,
    MissingExtraError,
    RefusedError,
    first_line,
    listed,
    together,
)
from edgepass.exporters import Job
from edgepass.exporters._capture import Program, capture, uncanonical
from edgepass.judging import batches, operations, parity, recording, verdict
from edgepass.judging import score as scores
from edgepass.judging.candidate import Candidate, Standard, Yardstick
from edgepass.judging.expected import Expected
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import NOT_BELIEVED, ArtifactRecord, Manifest, Varying
from edgepass.quantize import recipe as recipes
from edgepass.quantize.recipe import Recipe
from edgepass.quantize.sums import SumsInHalves
from edgepass.report import page
from edgepass.runtimes import Array, _memory
from edgepass.samples import Samples, check_args, collect
from edgepass.task import FULL, Task, refuse_scripted, stand_in

TARGETS = ("executorch", "coreml", "tflite")
RECIPE = "static_wi8_ai8"
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
class Plan:
    """What is to be written: every recipe for every target. Checked when made, before any model is loaded.

    `refused`: (target, recipe) -> why, where a target cannot do what others can.
    """

    targets: tuple[str, ...]
    recipes: tuple[Recipe, ...]
    max_batch: int | None = None
    dynamic: tuple[Varying, ...] = ()
    keep_state: bool = False
    refused: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @staticmethod
    def of(
        targets: Sequence[str],
        names: Sequence[str],
        max_batch: int | None = None,
        dynamic: Sequence[Varying] = (),
        *,
        keep_state: bool = False,
    ) -> "Plan":
        """Raises UnknownNameError, InputError, and RefusedError where no target can do any of it."""
        if max_batch is not None and (not isinstance(max_batch, int) or max_batch < 2):
            raise InputError(
                f"max_batch is a whole number from 2 on, not {max_batch!r}; leave it out for a fixed batch"
            )
        chosen = tuple(dict.fromkeys(targets)) or TARGETS
        read = tuple(map(recipes.read, dict.fromkeys(map(recipes.resolved, names)))) or (recipes.read(RECIPE),)
        for name, count in Counter(recipe.name for recipe in read).items():
            if count > 1:
                raise InputError(f"{count} recipes are called {name!r} and would be one file; rename one of them")
        refused: dict[tuple[str, str], str] = {}
        for name, recipe in product(chosen, read):
            try:
                exporters.check(exporters.target(name), name, recipe, max_batch, dynamic)
            except RefusedError as error:
                refused[name, recipe.name] = str(error)
        if len(refused) == len(chosen) * len(read):
            raise RefusedError("; ".join(refused.values()))
        if keep_state:
            _refuse_stateless(chosen, read)
        return Plan(
            targets=chosen,
            recipes=read,
            max_batch=max_batch,
            dynamic=tuple(dynamic),
            keep_state=keep_state,
            refused=refused,
        )


def _refuse_stateless(targets: Sequence[str], chosen: Sequence[Recipe]) -> None:
    """Raise RefusedError where no file of these targets and recipes keeps state, whatever that is."""
    modules = {name: exporters.target(name) for name in catalog.names("targets")}
    schemes = {name: module.keeps_state.schemes - module.refuses.keys() for name, module in modules.items()}
    if any(recipe.scheme in schemes[name] for name, recipe in product(targets, chosen)):
        return
    can = [name for name, kept in schemes.items() if kept.intersection(recipe.scheme for recipe in chosen)]
    others = f"name {listed(can)} with --target" if can else "take another recipe"
    raise RefusedError(
        f"no file of {listed(targets)} keeps state with {listed([recipe.name for recipe in chosen])}; leave out "
        f"--keep-state, or {others}"
    )


def build(
    model: Any,
    example_inputs: Any,
    *,
    out: Path | str,
    targets: Sequence[str] = (),
    recipe: str | Sequence[str] = (),
    calibration: Any = None,
    evaluate: Any = None,
    metric: Any = None,
    higher_is_better: bool | None = None,
    bounds: Gates | None = None,
    max_batch: int | None = None,
    sequence: int | None = None,
    dynamic: Sequence[str] | str = (),
    keep_state: bool = False,
    overwrite: bool = False,
) -> Manifest:
    """Export a torch.nn.Module, run and judge each written file, and leave all of it in the folder `out`.

    example_inputs: tuple of arguments, or a dictionary of them by name, that fixes all shapes, and all that is no
    tensor, but the first dimension where `max_batch` is given: files
    then take from 1 to that many rows, and are judged at both ends and between. calibration: iterable of argument
    tuples. evaluate: such, or pairs (arguments, target). metric: a name (`edgepass list metrics`), a
    torchmetrics object, or a function of tensors (outputs [N, ...], targets [N, ...]) that says its direction, by
    (function, "higher" | "lower"), an attribute higher_is_better, or that argument; its attribute `output` may be the
    number of another output than the first, or "all" for a tuple.
    sequence: of a model that changes its buffers, calls after which they begin anew in the data; None where they never
    do. keep_state: let files of formats that can keep those buffers themselves, where others take and give them.
    Raises InputError and its kin (see edgepass.errors), and MissingExtraError where no target asked for is installed;
    a failed gate, and a target that cannot take the model or is not installed beside one that is, is in the verdict.
    """
    lengths = [ranges.read(text) for text in ([dynamic] if isinstance(dynamic, str) else dynamic)]
    chosen = [recipe] if isinstance(recipe, str) else recipe
    plan = Plan.of(targets, chosen, max_batch, lengths, keep_state=keep_state)
    refuse_scripted(model, "model")
    call = Call.of(example_inputs, "example_inputs")
    args = check_args(example_inputs, "example_inputs", call)
    name = type(model).__name__.lower()
    task = Task(
        name=name,
        source=f"{type(model).__module__}.{type(model).__qualname__}",
        model=call.positional(model),
        args=args,
        call=call,
        calibration=None if calibration is None else collect(calibration, args, "calibration", call=call),
        evaluation=None if evaluate is None else collect(evaluate, args, "evaluate", call=call),
        score=None if metric is None else scores.of(metric, "metric=", higher_is_better),
        sequence=sequence,
    )
    if task.evaluation is None:
        task = replace(task, evaluation=stand_in(task, 0))
    return export(task, plan, Path(out), bounds or Gates(), overwrite=overwrite)


def export(
    task: Task,
    plan: Plan,
    out: Path,
    bounds: Gates,
    *,
    threads: int = 1,
    overwrite: bool = False,
    say: Say = lambda line: None,
) -> Manifest:
    """Write and judge every artifact of `plan` into `out`, with manifest, golden samples and report."""
    staging.refuse_existing(out, overwrite=overwrite)
    for recipe in plan.recipes:
        recipe.check_calibration(given=task.calibration is not None)
    out = out.absolute()  # the model's forward may change the working folder
    say("capturing")
    task, program = captured(task, plan.max_batch, plan.dynamic)
    samples = evaluation(task)
    say(f"running {task.name} in torch on {len(samples)} samples")
    held, program, reference = settle(task, program, samples)
    if plan.keep_state and not program.state:
        raise InputError(f"{task.source} keeps no state from call to call; leave out --keep-state")
    program = replace(program, keeps=plan.keep_state)
    standard = Standard(
        samples=samples,
        reference=reference,
        score=task.score,
        threads=threads,
        batches=batches.of(samples, reference, plan.max_batch, held.reference, program.outputs, program.lengths),
        named=(program.inputs, program.outputs),
    )
    _ = standard.comparison  # a metric that cannot be had is told before anything is written
    calibrate = calibration(task, program)
    with staging.folder(out, overwrite=overwrite) as folder:
        written = write(program, plan, task.name, folder, calibrate, say)
        yardsticks = _yardsticks(program, written, standard, folder, say)
        records = recording.save_golden(folder, standard, judge(written, standard, bounds, yardsticks, say))
        result = recording.manifest_of(task, standard, records, bounds, plan.max_batch, program.changed, plan.dynamic)
        result = replace(result, recipes={r.name: r.text for r in plan.recipes if r.text})
        result.write(folder)
        page.write(folder)
    return result


def write(
    program: Program,
    plan: Plan,
    name: str,
    folder: Path,
    calibrate: Callable[[], Iterable[tuple[Tensor, ...]]] | None,
    say: Say = lambda line: None,
) -> list[Candidate | ArtifactRecord]:
    """Convert: one quantised graph a recipe, one file a recipe and target; a record of failure where there is none.

    Raises MissingExtraError or UnloadableError where the packages of all that is asked for are absent.
    """
    written: list[Candidate | ArtifactRecord] = []
    absent: list[EdgepassError] = []
    for recipe in plan.recipes:
        job = Job(program, recipe, calibrate)
        expected = expectations(job)
        graph = operations.Graph(job.realised) if recipe.scheme == "static" else None
        for target_name in plan.targets:
            path = folder / f"{name}.{recipe.name}{exporters.target(target_name).suffix}"
            why = plan.refused.get((target_name, recipe.name))
            if why is None:
                say(f"writing {path.name}")
                try:
                    written.append(convert(target_name, job, path, expected(target_name), graph))
                    continue
                except RefusedError as error:
                    staging.remove(path)
                    why = str(error)
                except MemoryError:
                    staging.remove(path)
                    why = exporters.no_memory(target_name, recipe)
                except ABSENT as error:
                    absent.append(error)
                    why = str(error)
            written.append(verdict.unwritten(target_name, exporters.target(target_name).runtime, recipe.name, why))
    if absent and len(absent) == len(written) - len(plan.refused):
        raise together(absent)
    return written


def judge(
    written: Iterable[Candidate | ArtifactRecord],
    standard: Standard,
    bounds: Gates,
    yardsticks: Mapping[str, Yardstick | str | None],
    say: Say = lambda line: None,
) -> list[tuple[ArtifactRecord, list[Array]]]:
    """The record of each file with its outputs; a record of failure is as it was, without any.

    A file whose runtime is not installed is not judged here, and the others are; MissingExtraError where it is so of
    all of them.
    """
    judged: list[tuple[ArtifactRecord, list[Array]]] = []
    absent: list[EdgepassError] = []
    run = 0
    for asked in written:
        if isinstance(asked, ArtifactRecord):
            judged.append((asked, []))
            continue
        say(f"judging {asked.path.name}")
        try:
            record, outputs = verdict.judge(asked, standard, bounds, yardsticks.get(asked.target))
            run += 1
        except MissingExtraError as error:
            absent.append(error)
            record, outputs = verdict.unjudged(asked, str(error)), []
        judged.append((record, outputs))
    if absent and not run:
        raise together(absent)
    return judged


def convert(
    target_name: str, job: Job, path: Path, expected: Expected | None = None, graph: operations.Graph | None = None
) -> Candidate:
    """One file, written to `path`, with what judging needs to know of it; `expected` and `graph` are of the same job.

    Raises UnknownNameError or RefusedError.
    """
    lowered = exporters.export(target_name, job, path)
    return Candidate(
        path=path,
        target=target_name,
        runtime=exporters.target(target_name).runtime,
        recipe=job.recipe,
        requested=exporters.requested(target_name, job),
        stated=exporters.stated(target_name, job),
        fallbacks=lowered.fallbacks,
        notes=[
            *job.program.notes,
            *lowered.notes,
            *exporters.spared(target_name, job),
            *exporters.stateless(target_name, job),
        ],
        expected=expected or expectations(job)(target_name),
        graph=graph or (operations.Graph(job.realised) if job.recipe.scheme == "static" else None),
        fresh=True,
        keeps=exporters.keeps_state(target_name, job),
    )


def expectations(job: Job) -> Callable[[str], Expected]:
    """Target -> what files of a job are expected to give; targets that compute the same share one."""

    @cache
    def made(beyond: frozenset[OpOverload], halves: bool) -> Expected:
        return Expected(lambda: SumsInHalves(job.realised(beyond)) if halves else job.realised(beyond))

    def of(name: str) -> Expected:
        target, scheme = exporters.target(name), job.recipe.scheme
        return made(target.beyond.get(scheme, frozenset()), scheme == "float16" and target.sums_in_halves)

    return of


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
    return partial(_carried, samples, program, task.source)


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


def _yardsticks(
    program: Program, written: list[Candidate | ArtifactRecord], standard: Standard, folder: Path, say: Say
) -> dict[str, Yardstick | str | None]:
    """The float32 file of each target that has a file: one asked for, or one made for the comparison.

    None where it cannot run here; a sentence where the target fails at it.
    """
    sticks: dict[str, Yardstick | str | None] = {}
    job = Job(program, recipes.read("fp32"))
    candidates = [c for c in written if isinstance(c, Candidate)]
    for name in dict.fromkeys(c.target for c in candidates):
        target = exporters.target(name)
        asked = [c.path for c in candidates if c.target == name and c.recipe and c.recipe.scheme == "float32"]
        path = asked[0] if asked else folder / f".float{target.suffix}"
        say(f"measuring the float model as {target.suffix}")
        try:
            if not asked:
                exporters.export(name, job, path)
            keeping = standard.keeping if exporters.keeps_state(name, job) else standard
            sticks[name] = verdict.measure_float(path, target.runtime, keeping)
        except (DeviceOnlyError, MissingExtraError):
            sticks[name] = None
        except (ArtifactError, RefusedError) as error:
            said = verdict.said(error, path, fresh=True)
            sticks[name] = f"the float32 model cannot be had as a file of {name}, {NOT_BELIEVED}: {said}"
        finally:
            if not asked:
                staging.remove(path)
    return sticks
