"""Validation: files judged again, and files that another tool made."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import edgepass.exporters as exporters
from edgepass import catalog, pipeline, source
from edgepass.errors import ArtifactError, InputError, MissingExtraError
from edgepass.exporters import Job
from edgepass.judging import batches, files, gates, manifest, recording, standing
from edgepass.judging import score as scores
from edgepass.judging.candidate import Candidate, Standard
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import ArtifactRecord, Manifest, Metric, Outcome, Varying
from edgepass.judging.replay import replay
from edgepass.quantize import recipe as recipes
from edgepass.runtimes import Array, _child
from edgepass.task import Task


def validate(
    path: Path,
    *,
    load: Callable[[str, Metric | None], Task],
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
    `method`: of a file with several, the one that the reference is of.
    """
    if method and _is_output(path):
        raise InputError(f"{path} is a folder, each of whose files is one method; leave out --method, or name a file")
    made = manifest.read(path) if _is_output(path) else None
    listed = _listed(path, made) if made else [(path, recipe)]
    for file, _ in listed:
        files.runtime_of(file)
    model = reference or (made.model.source if made else None)
    if model is None:
        raise InputError(f"{path} does not say which model it was made from; name it with --reference MODEL")
    if reference is None and not trust and source.runs_code(model):
        raise InputError(
            f"{path} says that it was made from {model}, and Python code that a folder names is not run unasked; "
            "if that file is your own, add --trust, or name the model with --reference MODEL"
        )
    # The model's forward may change the working folder.
    path, listed = path.absolute(), [(file.absolute(), name) for file, name in listed]
    say(f"loading {model}")
    try:
        task = load(model, made.metric if made else None)
    except InputError as error:
        if reference:
            raise
        raise InputError(
            f"{path} was made from {model}, which cannot be had here: {error}; or give --reference"
        ) from None
    max_batch = max_batch or (made.model.max_batch if made else None)
    dynamic = dynamic or (made.model.dynamic if made else ())
    task = replace(task, sequence=task.sequence or (made.model.sequence if made else None))
    task, program = pipeline.captured(task, max_batch, dynamic)
    held, program, reference_outputs = pipeline.settle(task, program, samples := pipeline.evaluation(task))
    standard = Standard(
        samples=samples,
        reference=reference_outputs,
        score=scores.again(task.score, made) if made and metric is None else task.score,
        threads=threads,
        batches=batches.of(samples, reference_outputs, max_batch, held.reference, program.outputs, program.lengths),
        named=(program.inputs, program.outputs),
    )
    bounds = bounds.over(gates.of(made.gates)) if made else bounds

    def candidate(file: Path, name: str | None) -> Candidate:
        chosen = None if name is None else recipes.read(name, made.recipes if made else None)
        before = next((a for a in made.artifacts if a.file == file.name), None) if made else None
        target = before.target if before else _target(file)
        known = target in catalog.names("targets")
        # How static int8 rounds weights follows sums over calibration data, which another host adds in another order.
        exact = before is not None and chosen is not None and chosen.scheme != "static"
        job = Job(program, chosen, pipeline.calibration(task, program)) if chosen else None
        return Candidate(
            path=file,
            target=target,
            runtime=files.runtime_of(file),
            recipe=chosen,
            requested=exporters.requested(target, job) if job and known else [],
            stated=exporters.stated(target, job) if job and known and exact else [],
            keeps=before.keeps_state if before else _keeps_state(file, task, method),
            method=method,
            expected=pipeline.expectations(job)(target) if job and known and before else None,
        )

    judged = pipeline.judge((candidate(file, name) for file, name in listed), standard, bounds, {}, say)
    keys = {a.file: a.golden for a in made.artifacts} if made else {}
    judged = [(replace(record, golden=keys.get(record.file)), outputs) for record, outputs in judged]
    again = recording.manifest_of(task, standard, [r for r, _ in judged], bounds, max_batch, program.changed, dynamic)
    if made is None:
        return again
    return _held(path, made, replace(again, recipes=made.recipes), standard, judged, held)


def _held(
    folder: Path,
    made: Manifest,
    again: Manifest,
    standard: Standard,
    judged: list[tuple[ArtifactRecord, list[Array]]],
    held: Task,
) -> Manifest:
    """The new manifest with a reason for whatever of the old one no longer holds; files never written stay failed."""
    same_host = made.host == again.host
    changed = standing.of_data(made, again)
    records: list[ArtifactRecord] = []
    for said, found in zip([a for a in made.artifacts if a.file], again.artifacts, strict=True):
        why = list(standing.of_record(said, found, changed=changed, same_host=same_host))
        if (target := _target(folder / said.file)) != said.target:
            why.append(f"the manifest says that it is of the target {said.target!r}, and it is of {target!r}")
        records.append(replace(found, verdict="fail", reasons=[*why, *found.reasons]) if why else found)
    reasons = list(standing.of_folder(folder, made, again))
    golden = standing.read_golden(folder)
    try:
        if "evaluation" in changed:
            standard, judged = replay(golden, folder, held, records, standard.threads)
        tensors = recording.golden(standard, judged)
        reasons += standing.of_golden(golden, tensors, records, same_host=same_host)
    except InputError as error:
        reasons.append(f"the golden samples cannot be held against what they are of: {error}")
    records += [a for a in made.artifacts if not a.file]
    outcome: list[Outcome] = [record.verdict for record in records]
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
    return replace(again, artifacts=records, reasons=reasons, verdict=gates.worst(outcome))


def _keeps_state(file: Path, task: Task, method: str) -> bool:
    """Whether a file that was made elsewhere keeps the state of the model itself: it takes no more than the model."""
    try:
        contents = _child.inspect(files.runtime_of(file), file, method=method) if task.state else None
        return contents is not None and len(contents.inputs) == len(task.args)
    except (ArtifactError, MissingExtraError):  # which judging will tell
        return False


def _is_output(path: Path) -> bool:
    return path.is_dir() and path.suffix != ".mlpackage"


def _listed(folder: Path, made: Manifest) -> list[tuple[Path, str | None]]:
    written = [a for a in made.artifacts if a.file]
    missing = [a.file for a in written if not (folder / a.file).exists()]
    if missing:
        raise InputError(f"{folder} no longer holds {', '.join(missing)}, which its manifest lists")
    return [(folder / a.file, a.recipe) for a in written]


def _target(file: Path) -> str:
    """The target of a file that was made elsewhere, by the longest ending that fits; its runtime where none does."""
    endings = {exporters.target(name).suffix: name for name in catalog.names("targets")}
    fitting = [ending for ending in endings if file.name.endswith(ending)]
    return endings[max(fitting, key=len)] if fitting else files.runtime_of(file)
