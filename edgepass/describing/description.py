"""Description: what each part of a model holds and costs, and how far its tokens reach. Measured, never estimated."""

import warnings
from dataclasses import dataclass
from typing import cast

from rich.table import Table
from torch import nn
from torch.export import ExportedProgram, unflatten

from edgepass import catalog
from edgepass.describing import anatomy, costs
from edgepass.describing.anatomy import Part
from edgepass.describing.costs import Cost
from edgepass.describing.reach import Reach, measure
from edgepass.errors import InputError, first_line
from edgepass.judging.figures import percent, size
from edgepass.models.parts import Tokens
from edgepass.models.passes import Pass
from edgepass.models.passformer import Trunk
from edgepass.report.words import shape
from edgepass.task import Task

KINDS = {package: catalog.singular(kind) for kind, package in catalog.MODULES.items()}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One part in one call of the model.

    `parameters` leaves out weights that an earlier row has, and `macs` adds up all calls of the part.
    `activation_bytes`: the tensors that one call of it makes, as many as are alive at once when eager torch runs it.
    `full_attention`: the share of its MACs that make or apply a map between all tokens of the stack's input.
    """

    name: str
    kind: str
    what: str
    calls: int
    parameters: int
    macs: int
    activation_bytes: int
    reach: Reach | None = None
    full_attention: float | None = None


@dataclass(frozen=True, kw_only=True)
class Description:
    """Each part, then each stack of passes as a whole, then the model. Parts and model add up; stacks count again."""

    inputs: list[tuple[int, ...]]
    parts: list[Row]
    stacks: list[Row]
    model: Row


def describe(task: Task) -> Description:
    """What the parts of the task's model hold and cost, called with the task's example arguments.

    Parts are the passes and whatever stands beside them; of a model without passes, its top modules.
    Raises InputError when the model cannot be called so.
    """
    model = _module(task)
    grids: dict[nn.Module, tuple[int, ...]] = {}
    for module in model.modules():
        if isinstance(module, Pass):
            grids[module] = module.tokens.grid
        elif isinstance(module, Trunk):
            grids[module.topology] = cast(Tokens, module.embedding.tokens).grid
    try:
        called = anatomy.arguments(model, task.args, grids)
        parts = list(anatomy.parts(model, task.name, called))
        calls, total = costs.run(model, task.args, [p.module for p in parts], grids)
    except Exception as error:
        raise InputError(
            f"{task.source} raises {type(error).__name__} on its example arguments: {first_line(error)}"
        ) from None
    reaches = {m: measure(m, called[m], grid) for m, grid in grids.items() if m in called}
    held = anatomy.held(parts)

    def row(part: Part, costs: list[Cost], parameters: int, reach: Reach | None) -> Row:
        return _row(part, costs, parameters, reach, stacked=any(call.tokens for call in calls[part.module]))

    rows, stacks = [], []
    for part in parts:
        made, reach = calls[part.module], reaches.get(part.module)
        own = row(part, [call.own for call in made], held[part.module], reach if part.leaf else None)
        if part.leaf or own.parameters or own.macs:
            rows.append(own)
        if reach is not None and not part.leaf:
            stacks.append(row(part, [call.whole for call in made], _all(part.module), reach))
    whole = _row(Part(task.name, model, leaf=False), [total.whole], _all(model), None, stacked=bool(reaches))
    return Description(inputs=[tuple(x.shape) for x in task.args], parts=rows, stacks=stacks, model=whole)


def table(name: str, description: Description) -> Table:
    """For a person: the parts, then each stack as a whole, then the model."""
    view = Table(title=f"{name}: one call with {', '.join(shape(x) for x in description.inputs)}")
    view.add_column("part", overflow="fold")
    view.add_column("what")
    for column in ("parameters", "MACs", "activations", "reach", "full"):
        view.add_column(column, justify="right")
    for group in (description.parts, description.stacks, [description.model]):
        for row in group:
            view.add_row(
                row.name.removeprefix("passformer."),
                f"{row.calls} x {row.what}" if row.calls > 1 else row.what,
                f"{row.parameters:,}",
                f"{row.macs:,}",
                size(row.activation_bytes),
                "" if row.reach is None else _said(row.reach),
                "" if row.full_attention is None else percent(row.full_attention),
            )
        view.add_section()
    return view


def _module(task: Task) -> nn.Module:
    """The model as modules that call one another, also where it was saved as a program."""
    if not isinstance(task.model, ExportedProgram):
        return task.model.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own, of its tree specifications
        return unflatten(task.model)


def _row(part: Part, costs: list[Cost], parameters: int, reach: Reach | None, *, stacked: bool) -> Row:
    macs = sum(cost.macs for cost in costs)
    return Row(
        name=part.name,
        kind=_kind(part.module),
        what=_what(part.module),
        calls=len(costs),
        parameters=parameters,
        macs=macs,
        activation_bytes=max((cost.peak for cost in costs), default=0),
        reach=reach,
        full_attention=sum(cost.full for cost in costs) / max(macs, 1) if stacked else None,
    )


def _all(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _kind(module: nn.Module) -> str:
    if isinstance(module, Pass):
        return "pass"
    return KINDS.get(type(module).__module__.rpartition(".")[0], "module")


def _what(module: nn.Module) -> str:
    """A part's name is its file's; a pass is what it holds."""
    if isinstance(module, Pass):
        mixer, feed = (None if m is None else _what(m) for m in (module.mixer, module.channel_mixer))
        gates = ["gate"] * (module.gate is not None) + ["gate of the pass"] * (module.whole_gate is not None)
        return ", ".join(word for word in (mixer, *gates, feed) if word)
    package, _, file = type(module).__module__.rpartition(".")
    saved = getattr(module, "type_name", None)  # of a module in a saved program
    kind = saved() if callable(saved) else None
    return file if package in KINDS else str(kind or type(module).__name__).rpartition(".")[2]


def _said(reach: Reach) -> str:
    grid, span = ("x".join(map(str, sizes)) for sizes in (reach.grid, reach.span))
    said = f"{reach.tokens} of {grid}"
    return said if reach.span == (reach.tokens,) else f"{said}, in {span}"
