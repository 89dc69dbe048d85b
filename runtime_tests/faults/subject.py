"""Planting: a model or a folder, healthy, and what judging says of it when it is spoiled."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import numpy as np
from torch.fx import GraphModule

from edgepass import exporters, pipeline
from edgepass.errors import EdgepassError, RefusedError
from edgepass.exporters import Job, Lowered
from edgepass.exporters._capture import Program, capture
from edgepass.exporters._quiet import quiet
from edgepass.judging import batches, verdict
from edgepass.judging.candidate import Candidate, Standard, Yardstick
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import ArtifactRecord
from edgepass.plan import Plan
from edgepass.quantize import recipe as recipes
from edgepass.quantize.recipe import Recipe
from edgepass.runtimes import Array, _child, _memory, _worker
from edgepass.task import Task
from edgepass.validation import validate
from runtime_tests.faults.fault import ENDS, INT8, RECIPES, Fault
from runtime_tests.faults.graphs import calls
from runtime_tests.faults.models import BATCHES, MODELS, samples, small
from runtime_tests.faults.weights import Held, replace_bytes
from runtime_tests.prepared import Prepared

CALIBRATION, EVALUATION = 32, 64


class Spoiled(Job):
    """A job whose graph is spoiled after it was calibrated: what a converter that is wrong would be given."""

    def __init__(self, job: Job, fault: Fault) -> None:
        vars(self).update(vars(job))
        self.healthy, self.fault = job, fault
        if fault.recipes != INT8:
            self.program = replace(job.program, exported=job.program.retrace(self.spoil(job.graph())))

    def spoil(self, graph: GraphModule) -> GraphModule:
        """In place."""
        self.fault.plant(graph)
        graph.graph.eliminate_dead_code()
        graph.graph.lint()
        graph.recompile()
        return graph

    def quantised(self, *, fold: bool) -> GraphModule:
        """The healthy one, spoiled."""
        return self.spoil(self.healthy.quantised(fold=fold))


@dataclass(frozen=True, kw_only=True)
class Found:
    """What judging said of one file or folder.

    `verdict` is "not written" where a converter refuses the spoiled graph, "not there" where a file has no such bytes.
    """

    verdict: str
    reasons: tuple[str, ...] = ()


@contextmanager
def in_this_process() -> Iterator[None]:
    """Files are run here, once, not each in a child that first imports its runtime for seconds.

    What this process holds besides tells nothing of a file's memory, which is left out.
    """

    def reply(folder: Path, request: _worker.Request) -> int:
        with quiet():
            (folder / _worker.REPLY).write_bytes(msgspec.json.encode(_worker._reply(request, folder)))
        return 0

    with (
        patch.object(_child, "_spawn", reply),
        patch.object(_worker, "LATENCY_SECONDS", 0.0),
        patch.object(_memory, "peak", lambda: 0),
    ):
        yield


Written = tuple[dict[str, Candidate], Yardstick | str | None]


@dataclass
class Subject(Prepared):
    """One model for one target, healthy: captured, calibrated and written once."""

    model: str
    target: str
    folder: Path
    others: dict[str, Path] = field(default_factory=dict)

    @cached_property
    def task(self) -> Task:
        """With data."""
        module = MODELS[self.model]()
        inputs = 2 if self.model == "small" else 1
        batch, _ = BATCHES.get(self.model, (1, None))
        calibration, evaluation = samples(CALIBRATION, 1, inputs, batch), samples(EVALUATION, 2, inputs, batch)
        return Task(
            name=self.model,
            source="planted",
            model=module,
            args=calibration.arguments()[0],
            calibration=calibration,
            evaluation=evaluation,
        )

    @cached_property
    def most(self) -> int | None:
        """The largest batch, where it varies."""
        return BATCHES[self.model][1] if self.model in BATCHES else None

    @cached_property
    def program(self) -> Program:
        """The captured model."""
        return capture(self.task.model, self.task.args, max_batch=self.most)

    @cached_property
    def standard(self) -> Standard:
        """What the float model gives, at every batch."""
        assert self.task.evaluation
        reference = self.task.reference(self.task.evaluation)
        others = batches.of(self.task.evaluation, reference, self.most, self.task.reference)
        return Standard(samples=self.task.evaluation, reference=reference, score=None, batches=others)

    @cached_property
    def job(self) -> Job:
        """Of the int8 recipe."""
        return self.job_of(recipes.read(*INT8))

    def job_of(self, recipe: Recipe) -> Job:
        """Of a recipe."""
        assert self.task.calibration
        return Job(self.program, recipe, self.task.calibration.arguments)

    @cached_property
    def recipes(self) -> tuple[str, ...]:
        """That this model has files of."""
        return {"small": RECIPES, "indices": ("fp32",), "rows": ENDS}.get(self.model, INT8)

    @cached_property
    def healthy(self) -> Written:
        """Files by recipe, and the float file's figures."""
        return self.write(self.recipes)

    def write(self, names: tuple[str, ...]) -> Written:
        """As an export does, in a folder of its own. Raises RefusedError."""
        plan = Plan.of((self.target,), names, self.most)
        place = self.folder / f"{len(list(self.folder.iterdir()))}"
        place.mkdir()
        written = pipeline.write({"": self.job_of}, plan, self.model, place)
        for record in written:
            if isinstance(record, ArtifactRecord):
                raise RefusedError("; ".join(record.reasons))
        sticks = pipeline._yardsticks({"": self.job_of}, {"": self.standard}, written, place, lambda line: None)
        files = [c for c in written if isinstance(c, Candidate)]
        return {c.recipe.name: c for c in files if c.recipe}, sticks[self.target, ""]

    def judge(self, candidate: Candidate, stick: Yardstick | str | None) -> Found:
        """As an export does."""
        record, _ = verdict.judge(candidate, self.standard, Gates(), stick)
        return Found(verdict=record.verdict, reasons=tuple(record.reasons))

    def sound(self) -> Iterator[tuple[str, Found]]:
        """The healthy files, judged."""
        files, stick = self.healthy
        for name, candidate in files.items():
            yield name, self.judge(candidate, stick)

    def found(self, fault: Fault, names: tuple[str, ...] = RECIPES) -> Iterator[tuple[str, Found]]:
        """What becomes of a fault under each recipe that it can be planted in."""
        names = tuple(name for name in names if name in fault.recipes and name in self.recipes)
        if fault.where == "graph":
            yield from self._converted(fault, names, lambda job: Spoiled(job, fault))
            return
        if fault.where == "none":
            files, stick = self.healthy
            yield from ((name, self.judge(files[name], stick)) for name in names)
            return
        files, stick = self.healthy
        for name in names:
            if fault.where == "making":
                candidate = self.copy(files[name])
                exporters.export(self.target, fault.plant(self._job(name)), candidate.path)
            else:
                candidate = self.copy(files[name])
                if not self._spoil(fault, name, candidate.path):
                    yield name, Found(verdict="not there")
                    continue
            yield name, self.judge(candidate, stick)

    def _spoil(self, fault: Fault, name: str, path: Path) -> bool:
        if fault.where == "file":
            fault.plant(path, self.other(name))
            return True
        before, after = fault.plant(self.held(name))
        try:
            replace_bytes(path, before, after)
        except LookupError:
            try:  # Core ML keeps the scales of a float16 program in float16
                replace_bytes(path, before.astype(np.float16), after.astype(np.float16))
            except LookupError:
                return False
        return True

    def _converted(
        self, fault: Fault, names: tuple[str, ...], change: Callable[[Job], Job]
    ) -> Iterator[tuple[str, Found]]:
        """Written by a converter that is wrong, the float file for comparison too."""
        genuine = exporters.export

        def wrong(target: str, job: Job, path: Path) -> Lowered:
            return genuine(target, change(job), path)

        try:
            with patch.object(exporters, "export", wrong):
                files, stick = self.write(names)
        except EdgepassError as error:
            yield from ((name, Found(verdict="not written", reasons=(str(error),))) for name in names)
            return
        for name in names:
            yield name, self.judge(files[name], stick)

    def _job(self, name: str) -> Job:
        return self.job if name in INT8 else Job(self.program, recipes.read(name), self.job._calibration)

    def copy(self, candidate: Candidate) -> Candidate:
        """To be spoiled."""
        place = self.folder / f"{len(list(self.folder.iterdir()))}" / candidate.path.name
        place.parent.mkdir()
        if candidate.path.is_dir():
            shutil.copytree(candidate.path, place)
        else:
            shutil.copy(candidate.path, place)
        return replace(candidate, path=place)

    def other(self, name: str) -> Path:
        """The file of the same model with another seed."""
        if name not in self.others:
            job = Job(capture(small(seed=1), self.task.args), recipes.read(name), self.job._calibration)
            place = self.folder / f"other.{name}{exporters.target(self.target).suffix}"
            exporters.export(self.target, job, place)
            self.others[name] = place
        return self.others[name]

    def held(self, name: str) -> Held:
        """The square weight, as a file under this recipe has it."""
        model = self.task.module.get_parameter("square.weight").detach().numpy()
        if name not in INT8:
            return Held(model=model, stored=model.astype(np.float16 if name == "fp16" else np.float32), scale=None)
        graph = self.job.quantised(fold=True)
        for node in calls(graph, "dequantize_per_channel"):
            stored, scale = (_value(graph, n) for n in node.args[:2])
            # Rounded so that outputs err least, a value may be more than a step off, but not most of them.
            if stored.shape == model.shape and np.abs(stored * scale[:, None] - model).mean() < scale.max():
                return Held(model=model, stored=stored, scale=scale.astype(np.float32))
        raise LookupError("the square weight is not in the graph")


def _value(graph: GraphModule, node: Any) -> Array:
    value = graph
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value.detach().numpy()  # type: ignore[no-any-return]


@dataclass
class Folder:
    """An output folder of two float files of one format, to be spoiled and validated."""

    place: Path

    @cached_property
    def subject(self) -> Subject:
        """The small model."""
        (self.place / "files").mkdir()
        return Subject("small", "onnx", self.place / "files")

    @cached_property
    def written(self) -> Path:
        """By an export."""
        out = self.place / "out"
        pipeline.export(self.subject.task, Plan.of(("onnx",), ("fp32", "fp16")), out, Gates())
        return out

    def found(self, fault: Fault | None) -> Found:
        """What validating says of it."""
        copy = self.place / f"{len(list(self.place.iterdir()))}" / "out"
        shutil.copytree(self.written, copy)
        if fault is not None:
            fault.plant(copy)
        try:
            done = validate(
                copy, load=lambda model, before: self.subject.task, reference=None, recipe=None, bounds=Gates()
            )
        except EdgepassError as error:
            return Found(verdict="fail", reasons=(str(error).replace(f"{copy.parent}/", ""),))
        return Found(verdict=done.verdict, reasons=(*done.reasons, *(r for a in done.artifacts for r in a.reasons)))
