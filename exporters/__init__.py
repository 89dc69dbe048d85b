"""Exporters: what writes an artifact. One target per file; each file *is* a Target."""

import copy
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from math import prod
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from torch import Tensor
from torch._ops import OpOverload
from torch.fx import GraphModule

from edgepass import catalog
from edgepass.errors import NO_MEMORY, EdgepassError, RefusedError, listed, of_writing, one_line
from edgepass.exporters import _space
from edgepass.exporters._capture import Program
from edgepass.exporters._origin import origin
from edgepass.exporters._quiet import converting
from edgepass.judging.manifest import Fallback, Varying
from edgepass.quantize import audit, pt2e, rounding, shares, tables, weights
from edgepass.quantize.audit import Requested
from edgepass.quantize.float16 import to_float16
from edgepass.quantize.nearest import make_int8
from edgepass.quantize.recipe import Recipe, Scheme
from edgepass.quantize.rounding import round_weights
from edgepass.quantize.weights import Array, Stated

LINE = 300
"""Characters of a converter's own message that a sentence carries."""
ONE = "forward"
"""The name of a method that is the only one, where its format gives it one."""
INTERPRETED = re.compile(r"(?:\\n|\s)*While executing %.*", re.DOTALL)
"""What torch.fx's interpreter adds to an error: the node, and where it was traced, which `origin` says by its line."""


@dataclass(frozen=True, kw_only=True)
class Lowered:
    """What an exporter made of a program, and found out on the way."""

    fallbacks: list[Fallback] = field(default_factory=list)
    """Operations that the partitioner declined, with its reason."""
    notes: list[str] = field(default_factory=list)
    content: Any = None
    """What the exporter writes, in a form of its own."""


@dataclass(frozen=True, kw_only=True)
class KeepsState:
    """What its files can keep from call to call: under which schemes, and whether that begins with zeros alone."""

    schemes: frozenset[Scheme] = frozenset()
    from_zero: bool = False

    def refusal(self, name: str, program: Program, recipe: Recipe) -> str:
        """Why a file of the target called `name` does not keep what the program does; empty where it does."""
        if not self.schemes:
            return f"{name} keeps none"
        if recipe.scheme not in self.schemes:
            can = [f'"{scheme}"' for scheme in sorted(self.schemes)]
            return f"{name} keeps state under recipes of the scheme {listed(can)} alone"
        begins = zip(program.state, program.args[len(program.args) - len(program.state) :], strict=True)
        unfit = [of for of, value in begins if not value.is_floating_point() or value.any()]
        if self.from_zero and unfit:
            return f"{name} keeps no integers and nothing that begins with other than zero: {listed(unfit)}"
        return ""


Made = TypeVar("Made")
Spares = dict[Scheme, tuple[frozenset[OpOverload], str]]
Beyond = dict[Scheme, frozenset[OpOverload]]


class Job:
    """One program under one recipe. The quantised graph is made when the first target asks and serves them all."""

    def __init__(
        self,
        program: Program,
        recipe: Recipe,
        calibration: Callable[[], Iterable[tuple[Tensor, ...]]] | None = None,
    ) -> None:
        self.program = program
        self.recipe = recipe.keeping(program.keep)
        self._calibration = calibration
        self.kin: tuple[Job, ...] = (self,)
        """Of the methods of one model, see `akin`."""
        self._prepared: GraphModule | None = None
        self._realised: dict[frozenset[OpOverload], GraphModule] = {}
        self._stated: list[Stated] | None = None
        self._of_graph: list[Stated] | None = None

    @property
    def calibrated(self) -> bool:
        """Whether there is data to calibrate with."""
        return self._calibration is not None

    def graph(self) -> GraphModule:
        """The float graph, a fresh copy that may be changed."""
        module = self.program.exported.module()
        assert isinstance(module, GraphModule)
        return module

    def quantised(self, *, fold: bool) -> GraphModule:
        """The PT2E graph of this recipe; see `pt2e.convert` for `fold`."""
        if self.recipe.scheme != "static":  # nothing to calibrate, and a dynamic graph does not survive copying
            return pt2e.convert(pt2e.prepare(self.graph(), self.recipe, [self.program.args]), fold=fold)
        if self._prepared is None:
            graph = self.graph()
            if self.recipe.rounding == "gptq" and self._calibration:
                round_weights(graph, self._seen, [job._seen for job in self.kin])
            self._prepared = pt2e.prepare(graph, self.recipe, self._calibration() if self._calibration else None)
            if all(
                job._prepared is not None for job in self.kin
            ):  # nobody asks for what the weights' inputs were any more
                for job in self.kin:
                    vars(job).pop("_seen", None)
        converted = shares.whole(pt2e.convert(copy.deepcopy(self._prepared), fold=fold))
        tables.in_int8(converted, self.recipe)
        return converted

    @cached_property
    def _seen(self) -> dict[str, rounding.Seen]:
        return rounding.seen(self.graph(), self.recipe, self._calibration() if self._calibration else ())

    def realised(self, beyond: frozenset[OpOverload] = frozenset()) -> GraphModule:
        """The program in the number formats of its recipe, as torch itself runs it: what files are expected to give.

        beyond: operations that are int8 too. Made once, so it is not to be changed.
        """
        if beyond not in self._realised:
            with converting():
                self._realised[beyond] = self._made(beyond)
        return self._realised[beyond]

    def _made(self, beyond: frozenset[OpOverload]) -> GraphModule:
        match self.recipe.scheme:
            case "float32":
                return self.graph()
            case "float16":
                return to_float16(self.graph(), self.recipe)
            case _:
                graph = self.quantised(fold=True)
                make_int8(graph, self.recipe, beyond)
                return graph

    def in_float(self) -> list[Array]:
        """What the recipe leaves in float of all that operations read as weights."""
        return weights.in_float(self.graph(), self.recipe)

    def weights(self, *, of_graph: bool) -> list[Stated]:
        """The weights of the model, with `of_graph` also as the quantised graph has them."""
        if self._stated is None:
            self._stated = weights.stated(self.graph())
        int8 = of_graph and self.recipe.weights == "int8"
        if int8 and self._of_graph is None:
            self._of_graph = weights.quantised(self._stated, self.quantised(fold=False))
        return self._of_graph if int8 and self._of_graph is not None else self._stated


def akin(jobs: Mapping[str, Job]) -> Mapping[str, Job]:
    """Jobs of one model's methods under one recipe, so that a weight which they share is rounded once for all."""
    for job in jobs.values():
        job.kin = tuple(jobs.values())
    return jobs


class Target(Protocol):
    """What a module of this package offers."""

    extra: str
    """The pip extra that brings the converter."""
    runtime: str
    """Name among the runtimes of what runs the file here."""
    suffix: str
    refuses: dict[Scheme, tuple[str, str]]
    """Schemes that this target cannot do: the reason, and the nearest recipe that it can."""
    spares: Spares
    """Weighted operations whose weights this target leaves in float32 under a scheme, and why."""
    dynamic_batch: str | None
    """None when the batch may vary; else the reason why not."""
    space: int
    """Bytes of address space that converting a small model takes, its packages included; see `_space.py`."""

    quantizes: frozenset[Scheme]
    """Schemes whose weights the format's own tools make int8, where the others take those of the graph."""
    least: dict[Scheme, int]
    """Elements of the smallest weight that these tools make int8; the float32 of a smaller one is no fault."""
    beyond: Beyond
    """Operations with weights that these tools make int8 and the recipe's own graph leaves in float."""
    sums_in_halves: bool
    """Whether products of float16 are summed in float16 where the processor can, and not in float32 as torch does."""
    keeps_state: KeepsState
    methods: bool
    """Whether a file may hold several, by their names."""

    def lower(self, job: Job) -> Lowered:
        """Convert a program."""
        ...

    def write(self, lowered: Mapping[str, Lowered], path: Path) -> None:
        """Write what was converted: of one method under ONE, or of several under their names, the first by default."""
        ...


def target(name: str) -> Target:
    """The target called `name`. Raises UnknownNameError."""
    return cast(Target, catalog.load("targets", name))  # a module is one by what it holds, which no type checker sees


def export(name: str, job: Job, path: Path) -> Lowered:
    """Write the program of `job` to `path` in the format of the target called `name`, without a word on the way.

    Raises RefusedError when the converter cannot take the model, or not in the memory that is free here,
    UnloadableError where it has no room to be loaded, and OSError where `path` cannot be written.
    """
    return export_methods(name, {ONE: job}, path)[ONE]


def export_methods(name: str, jobs: Mapping[str, Job], path: Path) -> dict[str, Lowered]:
    """The same of methods in one file, by their names; where a format runs one unasked, that is the first."""
    chosen, named = target(name), list(jobs) != [ONE]
    if len(jobs) > 1 and not chosen.methods:
        raise RefusedError(one_method(name))
    lowered: dict[str, Lowered] = {}
    for method, job in jobs.items():
        _space.check(name, chosen.space, job.program.exported)
        of = f"its method {method}" if named else "the model"
        lowered[method] = _told(name, job, of, path, partial(chosen.lower, job))
    job = next(iter(jobs.values()))
    _told(name, job, "the model", path, partial(chosen.write, lowered, path))
    return {method: replace(made, content=None) for method, made in lowered.items()}


def one_method(name: str) -> str:
    """Why a target's file does not hold several methods."""
    can = [other for other in catalog.names("targets") if target(other).methods]
    return (
        f"{name} cannot hold several methods: its files have one graph, and no name for another; export each method as "
        f"a model of its own, or name {' or '.join(can)} with --target"
    )


def _told(name: str, job: Job, of: str, path: Path, work: Callable[[], Made]) -> Made:
    """What `work` gives; whatever else a converter raises is told in a sentence, as of the model or a method, `of`."""
    try:
        with converting():
            return work()
    except EdgepassError:
        raise
    except Exception as error:  # whatever a converter raises for a model that it does not like
        if isinstance(error, OSError) and of_writing(error, path):
            raise
        root = _root(error)
        if isinstance(root, MemoryError) or NO_MEMORY.search(str(root)):
            raise RefusedError(no_memory(name, job.recipe)) from error
        why = one_line(INTERPRETED.sub("", str(root)).strip("'"), LINE)
        where = origin(job.program.bare or job.program.exported, str(root))
        raise RefusedError(
            f"{name} cannot convert {of} with {job.recipe.name}{where}: its converter raises {type(root).__name__}"
            f"{why and ': '}{why}; change that part of the model, or name the other targets with --target"
        ) from error


def no_memory(name: str, recipe: Recipe) -> str:
    """Why there is no file of a target whose conversion memory did not hold."""
    return (
        f"{name} cannot convert the model with {recipe.name}: converting took more memory than is free here; free "
        "some, allow more (ulimit -v), or make the model smaller"
    )


def _root(error: BaseException) -> BaseException:
    """What an error was first: a pass manager tells only which of its passes fails."""
    return error if error.__cause__ is None else _root(error.__cause__)


def requested(name: str, job: Job) -> list[Requested]:
    """The weights that a file of this target must hold in the format of the recipe. Raises UnknownNameError."""
    spared, why = target(name).spares.get(job.recipe.scheme, (frozenset(), ""))
    least = target(name).least.get(job.recipe.scheme, 0)
    small = f"of fewer than {least} elements, which {name}'s own quantiser leaves alone"
    wanted = audit.requested(job.program.exported, job.recipe, spared, why)
    return [w if w.reason or prod(w.shape) >= least else replace(w, reason=small) for w in wanted]


def stated(name: str, job: Job) -> list[Stated]:
    """What the weights in a file of this target must be; none of a graph that cannot be made here again.

    Raises UnknownNameError.
    """
    if job.recipe.scheme == "static" and not job.calibrated:
        return []
    with converting():
        found = job.weights(of_graph=job.recipe.scheme not in target(name).quantizes)
    spared, _ = target(name).spares.get(job.recipe.scheme, (frozenset(), ""))
    return [w for w in found if not (spared >= pt2e.LOOKUPS and w.name.endswith(tables.STEPS))]


def spared(name: str, job: Job) -> list[str]:
    """A sentence where this target leaves some of the model's weights in float32 against the recipe."""
    named: dict[str, list[str]] = {}
    for want in requested(name, job):
        if want.reason not in ("", audit.KEPT, audit.DECIDED):
            named.setdefault(want.reason, []).append(want.name)
    return [f"{job.recipe.name} leaves some weights in float32, {listed(names)}: {why}" for why, names in named.items()]


def keeps_state(name: str, job: Job) -> bool:
    """Whether a file of this target is to keep state itself. Raises UnknownNameError."""
    return job.program.keeps and not target(name).keeps_state.refusal(name, job.program, job.recipe)


def stateless(name: str, job: Job) -> list[str]:
    """A sentence where a file was to keep state and cannot."""
    why = target(name).keeps_state.refusal(name, job.program, job.recipe) if job.program.keeps else ""
    return [f"the file takes state and gives it: {why}"] if why else []


def check(target: Target, name: str, recipe: Recipe, max_batch: int | None, dynamic: Sequence[Varying] = ()) -> None:
    """Raise RefusedError when `target` cannot do what is asked. Cheap: call it before any model is loaded."""
    if recipe.scheme in target.refuses:
        reason, nearest = target.refuses[recipe.scheme]
        raise RefusedError(f"{name} cannot do {recipe.name}: {reason}; the nearest recipe that it can is {nearest}")
    asked = (["--max-batch"] if max_batch is not None else []) + (["--dynamic"] if dynamic else [])
    if asked and target.dynamic_batch is not None:
        what = "a batch that varies" if max_batch is not None else "a dimension that varies"
        raise RefusedError(
            f"{name} cannot hold {what}: {target.dynamic_batch}; "
            f"leave out {' and '.join(asked)}, or name the other targets with --target"
        )
