"""The whole story on one page: a model and a budget in, judged files out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from torch._ops import OpOverload

import edgepass.exporters as exporters
from edgepass import methods as _methods
from edgepass import ranges, staging, subject
from edgepass.calling import Call
from edgepass.errors import (
    ABSENT,
    ArtifactError,
    DeviceOnlyError,
    EdgepassError,
    InputError,
    MissingExtraError,
    RefusedError,
    together,
)
from edgepass.exporters import ONE, Job, Lowered
from edgepass.judging import operations, recording, verdict
from edgepass.judging import score as scores
from edgepass.judging.candidate import Candidate, Standard, Yardstick
from edgepass.judging.expected import Expected
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import NOT_BELIEVED, ArtifactRecord, Manifest
from edgepass.plan import Plan
from edgepass.quantize import recipe as recipes
from edgepass.quantize.recipe import Recipe
from edgepass.quantize.sums import SumsInHalves
from edgepass.report import page
from edgepass.runtimes import Array
from edgepass.samples import check_args, collect
from edgepass.task import Task, refuse_scripted, stand_in

Say = Callable[[str], None]
Maker = Callable[[Recipe], Job]
"""Gives a program under a recipe."""


def build(
    model: Any,
    example_inputs: Any = None,
    *,
    out: Path | str,
    methods: Mapping[str, Any] | None = None,
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
    tensor, but the first dimension where `max_batch` is given: files then take from 1 to that many rows, and are judged
    at both ends and between. methods: in its place the arguments of several methods of the model, by their names; a
    file then holds all of them where its format can, and calibration, evaluate and metric are dictionaries by the same
    names. calibration: iterable of argument tuples. evaluate: such, or pairs (arguments, target). metric: a name
    (`edgepass list metrics`), a torchmetrics object, or a function of tensors (outputs [N, ...], targets [N, ...]) that
    says its direction, by (function, "higher" | "lower"), an attribute higher_is_better, or that argument; its
    attribute `output` may be the number of another output than the first, or "all" for a tuple.
    sequence: of a model that changes its buffers, calls after which they begin anew in the data; None where they never
    do. keep_state: let files of formats that can keep those buffers themselves, where others take and give them.
    Raises InputError and its kin (see edgepass.errors), and MissingExtraError where no target asked for is installed;
    a failed gate, and a target that cannot take the model or is not installed beside one that is, is in the verdict.
    """
    lengths = [ranges.read(text) for text in ([dynamic] if isinstance(dynamic, str) else dynamic)]
    chosen = [recipe] if isinstance(recipe, str) else recipe
    plan = Plan.of(targets, chosen, max_batch, lengths, keep_state=keep_state)
    refuse_scripted(model, "model")
    if (methods is None) == (example_inputs is None):
        raise InputError("build takes example_inputs, those of forward, or methods, those of several; give one of them")
    example = {"": example_inputs} if methods is None else _methods.examples(methods, "methods")
    names = list(example)

    def given(what: Any, source: str) -> dict[str, Any]:
        if what is None:
            return {}
        return {"": what} if methods is None else _methods.by_name(what, names, source)

    calibrations, evaluations = given(calibration, "calibration"), given(evaluate, "evaluate")
    metrics = given(metric, "metric") if isinstance(metric, Mapping) else dict.fromkeys(names, metric)

    def task_of(method: str) -> Task:
        of = f" {method}".rstrip()
        source = "example_inputs" if methods is None else f"methods{of}"
        call = Call.of(example[method], source)
        args = check_args(example[method], source, call)
        score = metrics.get(method)
        calibrate, judged = calibrations.get(method), evaluations.get(method)
        made = Task(
            name=type(model).__name__.lower(),
            source=f"{type(model).__module__}.{type(model).__qualname__}",
            model=call.positional(_methods.method(model, method, "methods") if method else model),
            args=args,
            call=call,
            calibration=None if calibrate is None else collect(calibrate, args, f"calibration{of}", call=call),
            evaluation=None if judged is None else collect(judged, args, f"evaluate{of}", call=call),
            score=None if score is None else scores.of(score, "metric=", higher_is_better),
            sequence=sequence,
            method=method,
        )
        return made if made.evaluation is not None else replace(made, evaluation=stand_in(made, 0))

    return export(Task.of_methods(map(task_of, names)), plan, Path(out), bounds or Gates(), overwrite=overwrite)


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
        without = [one.method for one in task.each if one.calibration is None]
        if task.method and without and recipe.scheme == "static":
            raise InputError(
                f"{recipe.name} needs calibration data of each method, and {without[0]} has none; give some"
            )
        recipe.check_calibration(given=not without)
    out = out.absolute()  # the model's forward may change the working folder
    if plan.keep_state and task.method:
        raise InputError("each method would keep a state of its own in a file; leave out --keep-state")
    subjects = subject.prepare_all(task, plan.max_batch, plan.dynamic, threads=threads, say=say)
    if plan.keep_state:
        subjects = {method: one.keeping() for method, one in subjects.items()}
    standards = {method: one.standard for method, one in subjects.items()}
    for standard in standards.values():
        _ = standard.comparison  # a metric that cannot be had is told before anything is written
    makers = {method: one.job for method, one in subjects.items()}
    with staging.folder(out, overwrite=overwrite) as folder:
        written = write(makers, plan, task.name, folder, say)
        yardsticks = _yardsticks(makers, standards, written, folder, say)
        records = recording.save_golden(folder, standards, judge(written, standards, bounds, yardsticks, say))
        parts = {method: one.manifest(records, bounds) for method, one in subjects.items()}
        result = recording.together(parts, records)
        result = replace(result, recipes={r.name: r.text for r in plan.recipes if r.text})
        result.write(folder)
        page.write(folder)
    return result


def write(
    makers: Mapping[str, Maker], plan: Plan, name: str, folder: Path, say: Say = lambda line: None
) -> list[Candidate | ArtifactRecord]:
    """Convert: one quantised graph a recipe, one file a recipe and target; a record of failure where there is none.

    makers: of each method by its name, "" of a model that has one; what is written of several in one file is as many
    candidates in a row, and of a target whose files hold one each a file. Raises MissingExtraError or UnloadableError
    where the packages of all that is asked for are absent.
    """
    written: list[Candidate | ArtifactRecord] = []
    absent: list[EdgepassError] = []
    tried = 0
    for recipe in plan.recipes:
        jobs = exporters.akin({method: make(recipe) for method, make in makers.items()})
        expected = {method: expectations(job) for method, job in jobs.items()}
        graphs = {method: _graph(job) for method, job in jobs.items()}
        for target_name in plan.targets:
            target = exporters.target(target_name)
            refused = plan.refused.get((target_name, recipe.name))
            for infix, methods in _files(target_name, jobs):
                path = folder / f"{name}{infix}.{recipe.name}{target.suffix}"
                why = refused
                if why is None:
                    say(f"writing {path.name}")
                    tried += 1
                    try:
                        lowered = exporters.export_methods(target_name, {m or ONE: jobs[m] for m in methods}, path)
                        for m in methods:
                            of = expected[m](target_name)
                            written.append(_candidate(target_name, jobs[m], path, lowered[m or ONE], of, graphs[m], m))
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
                method = methods[0] if infix else ""
                written.append(verdict.unwritten(target_name, target.runtime, recipe.name, why, method))
    if absent and len(absent) == tried:
        raise together(absent)
    return written


def _files(target_name: str, methods: Iterable[str]) -> list[tuple[str, list[str]]]:
    """In which files a target holds methods: of each what its name has behind the model's, and which it holds."""
    held = list(methods)
    if len(held) == 1 or exporters.target(target_name).methods:
        return [("", held)]
    return [(f".{method}", [method]) for method in held]


def judge(
    written: Iterable[Candidate | ArtifactRecord],
    standards: Mapping[str, Standard],
    bounds: Gates,
    yardsticks: Mapping[tuple[str, str], Yardstick | str | None],
    say: Say = lambda line: None,
) -> list[tuple[ArtifactRecord, list[Array]]]:
    """The record of each file, or method of one, with its outputs; a record of failure is as it was, without any.

    standards: by method. yardsticks: by target and method. A file whose runtime is not installed is not judged here,
    and the others are; MissingExtraError where it is so of all of them.
    """
    judged: list[tuple[ArtifactRecord, list[Array]]] = []
    absent: list[EdgepassError] = []
    run = 0
    for asked in written:
        if isinstance(asked, ArtifactRecord):
            judged.append((asked, []))
            continue
        say(f"judging {asked.path.name}{asked.method and f' {asked.method}'}")
        try:
            stick = yardsticks.get((asked.target, asked.method))
            record, outputs = verdict.judge(asked, standards[asked.method], bounds, stick)
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
    return _candidate(target_name, job, path, lowered, expected or expectations(job)(target_name), graph or _graph(job))


def _candidate(
    target_name: str,
    job: Job,
    path: Path,
    lowered: Lowered,
    expected: Expected,
    graph: operations.Graph | None,
    method: str = "",
) -> Candidate:
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
        expected=expected,
        graph=graph,
        fresh=True,
        keeps=exporters.keeps_state(target_name, job),
        method=method,
    )


def _graph(job: Job) -> operations.Graph | None:
    return operations.Graph(job.realised) if job.recipe.scheme == "static" else None


def expectations(job: Job) -> Callable[[str], Expected]:
    """Target -> what files of a job are expected to give; targets that compute the same share one."""

    @cache
    def made(beyond: frozenset[OpOverload], halves: bool) -> Expected:
        return Expected(lambda: SumsInHalves(job.realised(beyond)) if halves else job.realised(beyond))

    def of(name: str) -> Expected:
        target, scheme = exporters.target(name), job.recipe.scheme
        return made(target.beyond.get(scheme, frozenset()), scheme == "float16" and target.sums_in_halves)

    return of


def _yardsticks(
    makers: Mapping[str, Maker],
    standards: Mapping[str, Standard],
    written: list[Candidate | ArtifactRecord],
    folder: Path,
    say: Say,
) -> dict[tuple[str, str], Yardstick | str | None]:
    """The float32 file of each target that has a file, by target and method: one asked for, or one made for this.

    None where it cannot run here; a sentence where the target fails at it.
    """
    sticks: dict[tuple[str, str], Yardstick | str | None] = {}
    jobs = {method: make(recipes.read("fp32")) for method, make in makers.items()}
    candidates = [c for c in written if isinstance(c, Candidate)]
    for name in dict.fromkeys(c.target for c in candidates):
        target = exporters.target(name)
        asked = {c.method: c.path for c in candidates if c.target == name and c.recipe and c.recipe.scheme == "float32"}
        for infix, methods in _files(name, jobs):
            path = asked.get(methods[0], folder / f".float{infix}{target.suffix}")
            say(f"measuring the float model as {target.suffix}")
            try:
                if methods[0] not in asked:
                    exporters.export_methods(name, {m or ONE: jobs[m] for m in methods}, path)
                for m in methods:
                    sticks[name, m] = _measured(name, jobs[m], path, standards[m], m)
            except (DeviceOnlyError, MissingExtraError):
                sticks |= {(name, m): None for m in methods}
            except (ArtifactError, RefusedError) as error:
                sticks |= {(name, m): _not_believed(name, path, error) for m in methods}
            finally:
                if methods[0] not in asked:
                    staging.remove(path)
    return sticks


def _measured(name: str, job: Job, path: Path, standard: Standard, method: str) -> Yardstick | str | None:
    """A method of a float32 file, run."""
    try:
        keeping = standard.keeping if exporters.keeps_state(name, job) else standard
        return verdict.measure_float(path, exporters.target(name).runtime, keeping, method)
    except (DeviceOnlyError, MissingExtraError):
        return None
    except (ArtifactError, RefusedError) as error:
        return _not_believed(name, path, error)


def _not_believed(name: str, path: Path, error: EdgepassError) -> str:
    said = verdict.said(error, path, fresh=True)
    return f"the float32 model cannot be had as a file of {name}, {NOT_BELIEVED}: {said}"
