"""Capture: torch.export runs once, for every target and recipe."""

import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from edgepass import structure
from edgepass.errors import CaptureError, EdgepassError, first_line, listed
from edgepass.exporters import _custom, _numbers, _varying
from edgepass.exporters._canonical import restate
from edgepass.exporters._canonical._complex import in_pairs
from edgepass.exporters._canonical._constants import attribute, forget
from edgepass.exporters._canonical._fold import fold
from edgepass.exporters._canonical._outputs import plain
from edgepass.exporters._canonical._unused import drop
from edgepass.exporters._quiet import converting
from edgepass.exporters._state import INPUT, OUTPUT, assigned, changed, explicit, kept
from edgepass.exporters._varying import Ranges
from edgepass.judging.manifest import Varying

COND = torch.ops.higher_order.cond
ITEM = torch.ops.aten.item.default
BOTH = "a file computes both branches of torch.cond, and takes what one of them gives"
OF_ONE_SIZE = (
    "the model keeps state from call to call, of a size that cannot vary with the batch; leave out --max-batch and "
    "--dynamic, and let get_args() have the sizes that the app will have"
)


@dataclass(frozen=True, kw_only=True)
class Program:
    """A captured model: float32, in ATen operations only.

    `args`: the example arguments; they fix every shape but what varies.
    `state`: names of the buffers whose values are the last of the arguments, as they begin, and the last of the
    outputs, as they go on; see _state.py. `keeps`: whether files of formats that can are to keep it themselves.
    `keep`: modules that the model itself wants kept in float32, whatever the recipe.
    `varying`: the dimensions that vary, the batch among them, each with the numbers of the inputs that have it.
    `notes`: what a reader of any file made of it should know.
    `bare`: the program before its canonical forms; None where it has none.
    `inputs`, `outputs`: what the model calls its tensors.
    `changed`: a sentence on what torch.export did to the model; empty where it did nothing, or nobody has looked.
    """

    exported: ExportedProgram
    args: tuple[Tensor, ...]
    keep: tuple[str, ...] = ()
    varying: Ranges = ()
    notes: tuple[str, ...] = ()
    bare: ExportedProgram | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    changed: str = ""
    state: tuple[str, ...] = ()
    keeps: bool = False

    @property
    def lengths(self) -> list[tuple[Varying, tuple[int, ...]]]:
        """What varies but for the batch."""
        return [(varying, inputs) for varying, inputs in self.varying if varying.axis]

    def retrace(self, module: nn.Module, args: tuple[Tensor, ...] | None = None) -> ExportedProgram:
        """A module that a stage made out of this program, as one of the same shapes; `args` are of other types."""
        return _exported(module, args or self.args, self.varying)

    def keeping(self, exported: ExportedProgram) -> ExportedProgram:
        """`exported`, of the inputs and outputs of this program, with its state in buffers of its own."""
        own = len(self.args) - len(self.state)
        module = kept(exported, dict(zip(self.state, self.args[own:], strict=True)))
        return _exported(module, self.args[:own], ())


def capture(
    model: nn.Module | ExportedProgram,
    args: tuple[Tensor, ...],
    *,
    decompositions: Mapping[OpOverload, Callable[..., Any]] | None = None,
    max_batch: int | None = None,
    dynamic: Sequence[Varying] = (),
) -> Program:
    """Capture `model` as called with `args`; a model that is a program already stays as it is.

    Custom operations are decomposed by the explicit table `decompositions` {operation: formula in torch}, and where it
    says nothing by the Python function that the operation was defined with.
    Raises CaptureError naming the user's line, or the operation for which there is no formula.
    """
    _refuse_doubles(model, args)
    # A view of a larger array may have strides of 0 along dimensions of 1, which ExecuTorch refuses.
    args = tuple(arg.detach().clone(memory_format=torch.contiguous_format) for arg in args)
    if max_batch is not None and (single := [number for number, arg in enumerate(args) if not arg.dim()]):
        raise CaptureError(
            f"every argument needs a first dimension, and argument {single[0]} is a single number, so no batch can "
            "vary; give it one, or leave out --max-batch"
        )
    varied = args
    varying: Ranges = ()
    if isinstance(model, ExportedProgram):
        if max_batch is not None:
            raise CaptureError("the batch of a program is what it was captured with; leave out --max-batch")
        if dynamic:
            raise CaptureError("the shapes of a program are what it was captured with; leave out --dynamic")
        exported = model
    else:
        varying = _varying.varying(model, args, max_batch, dynamic)
        for which, having in varying:  # torch.export takes a dimension of 1 for one that is always 1
            varied = tuple(_varying.wide(arg, which.axis) if n in having else arg for n, arg in enumerate(varied))
        hook = model.eval().register_forward_hook(lambda module, args, outputs: structure.plain(outputs))
        try:
            exported = _with_numbers(model, varied, varying)
        except EdgepassError:
            raise
        except Exception as error:
            if varying:
                _refuse_state(model, args)
            raise CaptureError(_explain(error, varying)) from None
        finally:
            hook.remove()
    inputs, outputs = _names(exported)
    args, state = varied, dict[str, Tensor]()
    if changed(exported):
        if varying:
            raise CaptureError(OF_ONE_SIZE)
        try:
            with converting():
                module, state = explicit(exported)
        except EdgepassError:
            raise
        except Exception as error:
            raise CaptureError(_explain(error, ())) from None
        args = (*args, *state.values())
        exported = _exported(module, args, ())
        inputs += structure.names([(INPUT + name,) for name in state], "state", inputs + outputs)
        outputs += structure.names([(OUTPUT + name,) for name in state], "state", inputs + outputs)
    if not outputs:
        raise CaptureError("the model gives no tensor, so a file of it would compute nothing; return one from forward")
    _refuse_complex(exported)
    dense(exported)
    program = Program(
        exported=exported,
        args=args,
        keep=tuple(getattr(model, "keep_float", ())),
        varying=varying,
        inputs=inputs,
        outputs=outputs,
        state=tuple(state),
    )
    if formulas := _custom.formulas(exported, decompositions or {}):
        program = replace(program, exported=program.retrace(_custom.decomposed(exported, formulas)))
    return _canonical(program)


def _exported(model: nn.Module, args: tuple[Tensor, ...], varying: Ranges) -> ExportedProgram:
    with converting():
        return torch.export.export(model, args, strict=False, dynamic_shapes=_varying.dynamic_shapes(args, varying))


def _with_numbers(model: nn.Module, args: tuple[Tensor, ...], varying: Ranges) -> ExportedProgram:
    """Captured; with the single numbers in its buffers known where something depends on values; see _numbers.py."""
    exported: ExportedProgram | None = None
    stopped: Exception | None = None
    try:
        with assigned(model):
            exported = _exported(model, args, varying)
    except Exception as error:
        if not _by_values(error):
            raise
        stopped = error
    if exported is None or any(node.target is ITEM for node in exported.graph.nodes):
        with suppress(Exception), _numbers.known(model, args) as any_number, assigned(model):  # not for them then
            if any_number:
                exported = _exported(model, args, varying)
    if exported is None:
        assert stopped
        raise stopped
    return exported


def _refuse_state(model: nn.Module, args: tuple[Tensor, ...]) -> None:
    """Raise CaptureError for a model that keeps state, where a size was asked to vary, and that has failed."""
    try:
        with assigned(model):
            keeps = changed(_exported(model, args, ()))
    except Exception:  # it fails anyhow, and for another reason
        return
    if keeps:
        raise CaptureError(OF_ONE_SIZE)


def _names(exported: ExportedProgram) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the tensors that a model takes and gives are called: its parameters, and the keys of its outputs."""
    inputs = tuple(exported.graph_signature.user_inputs)
    nodes: Any = exported.graph.output_node().args[0]  # with whatever buffers it changes in front
    given = [node.meta["val"] if isinstance(node, Node) else node for node in nodes]
    spec: Any = exported.call_spec.out_spec  # there is one of whatever was captured
    tree = pytree.tree_unflatten(given[len(given) - spec.num_leaves :], spec)
    paths = [path for path, leaf in structure.leaves(tree) if isinstance(leaf, Tensor)]
    taken = structure.names([(str(name),) for name in inputs], "input")
    return taken, structure.names(paths, "output", taken)


def _canonical(program: Program) -> Program:
    """The program in canonical forms, see edgepass.exporters._canonical; as it is where they do not fit."""
    exported = program.exported
    try:
        module = _module(exported)
        said = (
            [BOTH] if any(node.target is COND for graph in _custom.graphs(module) for node in graph.graph.nodes) else []
        )
        for form in (in_pairs, restate):
            if form(module):
                exported = program.retrace(module)
                module = _module(exported)
        dropped = drop(module)
        folded = fold(module)
        changed, notes = plain(module)
        if dropped or folded or changed:
            exported = program.retrace(module)
    except Exception as error:  # whatever torch raises for a formula that does not fit an operation it replaces
        return uncanonical(program, f"cannot be put into this model ({type(error).__name__}: {first_line(error)})")
    made = exported is not program.exported
    return replace(program, exported=exported, notes=(*said, *notes), bare=program.exported if made else None)


def _module(exported: ExportedProgram) -> GraphModule:
    """The program as a module whose nameless constants have names of their own.

    torch 2.13 calls the constants that it meets in a capture lifted_tensor_0 and so on, whether or not the captured
    module has such a one already.
    """
    module: GraphModule = exported.module()
    numbers, renamed = count(), dict[str, str]()
    for node in module.graph.nodes:
        name = str(node.target)
        if node.op == "get_attr" and name.rpartition(".")[2].startswith("lifted_tensor_"):
            if name not in renamed:
                value = attribute(module, name)
                renamed[name] = next(own for own in map("constant_{}".format, numbers) if not hasattr(module, own))
                setattr(module, renamed[name], value)
            node.target = renamed[name]
    for name in renamed:
        forget(module, name)
    module.recompile()
    return module


def uncanonical(program: Program, why: str) -> Program:
    """The program without canonical forms, with a note; `why` says what they do to it."""
    note = f"edgepass's canonical forms {why}, so its files are made without them; that is a fault to be reported"
    return replace(program, exported=program.bare or program.exported, bare=None, notes=(*program.notes, note))


def dense(exported: ExportedProgram) -> None:
    """Lay every weight and constant out in the order of its dimensions, in memory of its own; the model keeps its own.

    litert-torch 0.10 knows a constant by its address, and of a transposed one it makes a copy, whose address is soon
    the next one's: constants of one shape all become the first, without a word. ExecuTorch 1.5 fails on transposed
    buffers that are not in the state ("Missing input spec"), and of a part of a tensor it writes the tensor's start.
    """
    packed: dict[str, Tensor] = {}
    for table in (exported._state_dict, exported._constants):
        for name, tensor in table.items():
            if isinstance(tensor, Tensor) and not _owns_its_memory(tensor):
                own = tensor.detach().clone(memory_format=torch.contiguous_format)
                is_parameter = isinstance(tensor, nn.Parameter)
                packed[name] = table[name] = nn.Parameter(own, tensor.requires_grad) if is_parameter else own
    targets = {spec.arg.name: spec.target for spec in exported.graph_signature.input_specs}
    for node in exported.graph.nodes:
        if node.op == "placeholder" and targets.get(node.name) in packed:
            node.meta["val"] = node.meta["val"].contiguous()


def _owns_its_memory(tensor: Tensor) -> bool:
    """Whether it lies dense, in a dimension of one too, and its memory holds nothing else."""
    strides = torch.empty(tensor.shape, device="meta").stride()
    return tensor.stride() == strides and tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def _refuse_doubles(model: nn.Module | ExportedProgram, args: tuple[Tensor, ...]) -> None:
    """Raise CaptureError for float64 among what goes in and what is kept."""
    state = model.state_dict if isinstance(model, ExportedProgram) else model.state_dict()
    named = {f"input {number}": arg for number, arg in enumerate(args)} | state
    doubles = [name for name, value in named.items() if isinstance(value, Tensor) and value.dtype == torch.float64]
    if doubles:
        raise CaptureError(
            f"the model is in float64 ({listed(doubles)}), which phones do not compute in; "
            "make it float32 with model.float(), and give it float32 arguments and data"
        )


def _refuse_complex(exported: ExportedProgram) -> None:
    """Raise CaptureError for complex tensors that go in or come out."""
    signature = exported.graph_signature
    given = {node.name: node.meta.get("val") for node in exported.graph.nodes}
    for word, names in (("input", signature.user_inputs), ("output", signature.user_outputs)):
        for number, name in enumerate(names):
            value = given.get(str(name))
            if isinstance(value, Tensor) and value.is_complex():
                raise CaptureError(
                    f"{word} {number} of the model is complex, and no file takes or gives complex numbers; make it "
                    "torch.view_as_real of that, or its real and imaginary parts"
                )


def _explain(error: Exception, ranges: Ranges) -> str:
    """One sentence with the line of the user's code that torch.export stopped at."""
    torch_home = str(Path(torch.__file__).parent)
    frames = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if not f.filename.startswith((torch_home, "<")) and Path(f.filename).parent != Path(__file__).parent
    ]
    where = f" at {frames[-1].filename}:{frames[-1].lineno}, `{frames[-1].line}`" if frames else ""
    if _by_values(error):
        why = "the control flow depends on the values of a tensor"
        advice = "use torch.where or torch.cond, or move the decision out of the model"
    elif ranges and "Constraint" in str(error):
        varying = [which for which, _ in ranges]
        of = [f"dimension {v.axis} cannot vary from {v.low} to {v.high}" for v in varying if v.axis]
        of += [f"the batch cannot vary up to {v.high}" for v in varying if not v.axis]
        why = f"{' or '.join(of)} ({first_line(error)})"
        flags = " and ".join(dict.fromkeys("--dynamic" if v.axis else "--max-batch" for v in varying))
        advice = f"leave out {flags}, or do not fix such a size in a reshape"
    else:
        why = f"{type(error).__name__}: {first_line(error)}"
        advice = "call the model with get_args() in plain torch first"
    return f"torch.export cannot capture the model{where}: {why}; {advice}"


def _by_values(error: Exception) -> bool:
    """Whether capture stopped because something depends on the values of a tensor."""
    return "data-dependent" in str(error).lower() or "DataDependent" in type(error).__name__
