"""Validation: files judged again, and files that another tool made."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import edgepass.exporters as exporters
from edgepass import catalog, pipeline, source, subject
from edgepass.errors import ArtifactError, InputError, MissingExtraError, listed
from edgepass.exporters import Job
from edgepass.judging import files, gates, manifest, recording, standing
from edgepass.judging import score as scores
from edgepass.judging.candidate import Candidate
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import ArtifactRecord, Manifest, Metric, Outcome, Varying
from edgepass.judging.replay import replay
from edgepass.quantize import recipe as recipes
from edgepass.runtimes import Array, _child
from edgepass.subject import Subject
from edgepass.task import Task


def validate(
    path: Path,
    *,
    load: Callable[[str, Mapping[str, Metric]], Task],
    reference: str | None,
    recipe: str | None,
    method: str = "",
    metric: str | None = None,
    bounds: Gates,
    threads: int = 1,
    max_batch: int | None = None,
    dynamic: Sequence[Varying] = (),
    trust: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Manifest:
    """The verdict on every file of an output folder, or on one file, against the reference model.

    `load` makes the task of a model, and is told which metric the folder was made with. `metric` is the one that it was
    asked for; where it is None, the folder's is taken.
    So is `max_batch`, up to which the first dimension of the files' inputs may vary.
    A Python file that only the folder names is run when the caller trusts it. Raises InputError when there is no
    reference, and ArtifactError when there is no such file.
    `method`: of a file with several, the one that the reference is of, or the only one of the reference's that is asked
    for.
    """
    if method and _is_output(path):
        raise InputError(
            f"{path} is a folder, whose files are judged by all that they hold; leave out --method, or name a file"
        )
    made = manifest.read(path) if _is_output(path) else None
    for file in _written(path, made) if made else [path]:
        files.runtime_of(file)
    model = reference or (made.model.source if made else None)
    if model is None:
        raise InputError(f"{path} does not say which model it was made from; name it with --reference MODEL")
    if reference is None and not trust and source.runs_code(model):
        raise InputError(
            f"{path} says that it was made from {model}, and Python code that a folder names is not run unasked; "
            "if that file is your own, add --trust, or name the model with --reference MODEL"
        )
    path = path.absolute()  # the model's forward may change the working folder
    say(f"loading {model}")
    try:
        task = load(model, made.metrics if made else {})
    except InputError as error:
        if reference:
            raise
        raise InputError(
            f"{path} was made from {model}, which cannot be had here: {error}; or give --reference"
        ) from None
    parts = manifest.parts(made) if made else {}
    task = _as_asked(task, path, method, parts)
    if made:
        task = task.mapped(lambda one: _as_made(one, parts[one.method], scored=metric is None))
    max_batch = max_batch or (made.model.max_batch if made else None)
    dynamic = dynamic or (made.model.dynamic if made else ())
    subjects = subject.prepare_all(task, max_batch, dynamic, threads=threads, say=say)
    standards = {name: one.standard for name, one in subjects.items()}
    bounds = bounds.over(gates.of(made.gates)) if made else bounds

    @cache
    def jobs(name: str) -> Mapping[str, Job]:
        chosen = recipes.read(name, made.recipes if made else None)
        return exporters.akin({method: one.job(chosen) for method, one in subjects.items()})

    def candidate(asked: _Asked) -> Candidate:
        one = jobs(asked.recipe)[asked.method] if asked.recipe is not None else None
        before = asked.before
        target = before.target if before else _target(asked.file)
        known = target in catalog.names("targets")
        # How static int8 rounds weights follows sums over calibration data, which another host adds in another order.
        exact = before is not None and one is not None and one.recipe.scheme != "static"
        return Candidate(
            path=asked.file,
            target=target,
            runtime=files.runtime_of(asked.file),
            recipe=None if asked.recipe is None else recipes.read(asked.recipe, made.recipes if made else None),
            requested=exporters.requested(target, one) if one and known else [],
            stated=exporters.stated(target, one) if one and known and exact else [],
            keeps=before.keeps_state if before else _keeps_state(asked.file, subjects[asked.method].task, asked.method),
            method=asked.method,
            expected=pipeline.expectations(one)(target) if one and known and before else None,
        )

    if made:
        asked = [_Asked(path / a.file, a.recipe, a.method, a) for a in made.artifacts if a.file]
    else:
        asked = [_Asked(path, recipe, name) for name in subjects]
    judged = pipeline.judge(map(candidate, asked), standards, bounds, {}, say)
    judged = [
        (replace(record, golden=one.before.golden if one.before else None), outputs)
        for one, (record, outputs) in zip(asked, judged, strict=True)
    ]
    records = [record for record, _ in judged]
    again = {name: one.manifest(records, bounds) for name, one in subjects.items()}
    return _held(path, made, again, subjects, judged) if made else recording.together(again, records)


@dataclass(frozen=True)
class _Asked:
    """A file, or a method of it, with the record that a folder's manifest has of it."""

    file: Path
    recipe: str | None
    method: str
    before: ArtifactRecord | None = None


def _as_asked(task: Task, path: Path, method: str, parts: Mapping[str, Manifest]) -> Task:
    """The task of the methods that are judged: those of a folder, of a file the one asked for, or all that it holds."""
    if parts:
        names = [one.method for one in task.each]
        if set(names) != set(parts):
            of = [listed(list(given)) if any(given) else "a model of one" for given in (parts, names)]
            raise InputError(f"{path} has the methods of {of[0]}, and {task.source} gives {of[1]}; export again")
        return task
    if not task.method:  # what the reference is of, its user knows
        return replace(task, method=method)
    known = {one.method: one for one in task.each}
    if method and method not in known:
        raise InputError(f"{task.source} has no method {method!r}; it has {', '.join(known)}")
    held = [method] if method else [name for name in _methods(path) if name in known] or list(known)
    return Task.of_methods(one for name, one in known.items() if name in held)


def _as_made(task: Task, part: Manifest, *, scored: bool) -> Task:
    """With what a folder was made with; `scored`: the metric, too."""
    score = scores.again(task.score, part) if scored else task.score
    return replace(task, sequence=task.sequence or part.model.sequence, score=score)


def _methods(file: Path) -> list[str]:
    try:
        return _child.inspect(files.runtime_of(file), file).methods
    except (ArtifactError, MissingExtraError):  # which judging will tell
        return []


def _held(
    folder: Path,
    made: Manifest,
    again: Mapping[str, Manifest],
    subjects: Mapping[str, Subject],
    judged: list[tuple[ArtifactRecord, list[Array]]],
) -> Manifest:
    """The new manifest with a reason for whatever of the old one no longer holds; files never written stay failed."""
    whole = recording.together(again, [record for record, _ in judged])
    golden = standing.read_golden(folder)
    reasons = list(standing.of_strangers(folder, made, whole))
    outcome: list[Outcome] = []
    if reasons:
        outcome.append("fail")
    records: dict[tuple[str, str], ArtifactRecord] = {}
    for method, part in manifest.parts(made).items():
        mine = [(record, outputs) for record, outputs in judged if record.method == method]
        held = _part(folder, part, again[method], subjects[method], mine, golden)
        records |= {(record.file, method): record for record in held.records}
        reasons += [f"{method}: {reason}" if method else reason for reason in held.reasons]
        outcome += held.outcome
    lost = [key for key in golden if not key.startswith(tuple(map(manifest.prefix, again)))]
    for key in sorted(lost):
        reasons.append(f"{manifest.GOLDEN} holds {key}, which is of no method here")
        outcome.append("fail")
    ordered = [records[record.file, record.method] for record, _ in judged] + [a for a in made.artifacts if not a.file]
    verdict = gates.worst([*outcome, *(record.verdict for record in ordered)])
    return replace(whole, artifacts=ordered, reasons=reasons, verdict=verdict, recipes=made.recipes)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Of a method: records with what no longer holds of them, and reasons with their outcomes."""

    records: list[ArtifactRecord]
    reasons: list[str]
    outcome: list[Outcome]


def _part(
    folder: Path,
    made: Manifest,
    again: Manifest,
    one: Subject,
    judged: list[tuple[ArtifactRecord, list[Array]]],
    golden: Mapping[str, Array],
) -> _Part:
    """What of the old manifest of a method, or of a model of one, no longer holds."""
    same_host = made.host == again.host
    changed = standing.of_data(made, again)
    records: list[ArtifactRecord] = []
    outcome: list[Outcome] = []
    for said, found in zip([a for a in made.artifacts if a.file], again.artifacts, strict=True):
        why = list(standing.of_record(said, found, changed=changed, same_host=same_host))
        if (target := _target(folder / said.file)) != said.target:
            why.append(f"the manifest says that it is of the target {said.target!r}, and it is of {target!r}")
        records.append(replace(found, verdict="fail", reasons=[*why, *found.reasons]) if why else found)
    reasons = list(standing.of_model(made, again))
    standard = one.standard
    own = {key: value for key, value in golden.items() if key.startswith(manifest.prefix(standard.method))}
    try:
        if "evaluation" in changed:
            standard, judged = replay(own, folder, one.held, records, standard.threads)
        tensors = recording.golden(standard, judged)
        reasons += standing.of_golden(own, tensors, records, same_host=same_host)
    except InputError as error:
        reasons.append(f"the golden samples cannot be held against what they are of: {error}")
    if reasons:
        outcome.append("fail")
    if changed:
        reasons.append(
            f"the {' and '.join(changed)} data here are not those whose hash the manifest has, so what it says of "
            "outputs on them is not held; give the data and the seed of the export"
        )
        outcome.append("not-evaluated")
    for reason in standing.of_metric(made, again):
        reasons.append(reason)
        outcome.append("not-evaluated")
    return _Part(records=records, reasons=reasons, outcome=outcome)


def _keeps_state(file: Path, task: Task, method: str) -> bool:
    """Whether a file that was made elsewhere keeps the state of the model itself: it takes no more than the model."""
    try:
        contents = _child.inspect(files.runtime_of(file), file, method=method) if task.state else None
        return contents is not None and len(contents.inputs) == len(task.args)
    except (ArtifactError, MissingExtraError):  # which judging will tell
        return False


def _is_output(path: Path) -> bool:
    return path.is_dir() and path.suffix != ".mlpackage"


def _written(folder: Path, made: Manifest) -> list[Path]:
    """The files of a folder. Raises InputError where some are not there."""
    names = list(dict.fromkeys(a.file for a in made.artifacts if a.file))
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise InputError(f"{folder} no longer holds {', '.join(missing)}, which its manifest lists")
    return [folder / name for name in names]


def _target(file: Path) -> str:
    """The target of a file that was made elsewhere, by the longest ending that fits; its runtime where none does."""
    endings = {exporters.target(name).suffix: name for name in catalog.names("targets")}
    fitting = [ending for ending in endings if file.name.endswith(ending)]
    return endings[max(fitting, key=len)] if fitting else files.runtime_of(file)
