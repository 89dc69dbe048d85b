"""From a program to a .pte, whichever delegates take its parts."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch._ops import OpOverload
from torch.export import ExportedProgram, default_decompositions
from torch.fx import GraphModule, Node

from edgepass import rewrites
from edgepass.exporters import Job, Lowered, _lacking, _state
from edgepass.exporters._capture import dense
from edgepass.exporters.executorch import _kernels, _orders
from edgepass.judging.manifest import Fallback
from edgepass.quantize.float16 import to_float16

if TYPE_CHECKING:
    from executorch.exir import EdgeProgramManager
    from executorch.exir.backend.partitioner import Partitioner

ATEN = torch.ops.aten
NO_FALLBACK = ("executorch_call_delegate", "getitem", "alloc")
MISTAKEN = (ATEN.max_pool2d_with_indices_backward.default,)
"""Operations of which the runtime's kernel (executorch 1.5.1) gives other numbers than torch."""
OF_FLOAT32 = (ATEN.log_softmax.int, ATEN._log_softmax.default)
"""Operations of which it fails on float64."""


def program(
    job: Job,
    keep_ops: Collection[OpOverload] = (),
    change: Callable[[GraphModule], GraphModule] | None = None,
) -> ExportedProgram:
    """The program in the number formats of its recipe, and with `change` made to its graph.

    In float16, operations of `keep_ops` stay in float32.
    """
    match job.recipe.scheme:
        case "float32" if change is None:
            return job.program.exported
        case "float32":
            graph = job.graph()
        case "float16":
            graph = to_float16(job.graph(), job.recipe, keep_ops)
        case _:
            graph = job.quantised(fold=True)
    return job.program.retrace(change(graph) if change else graph)


def lower(
    job: Job, program: ExportedProgram, names: Sequence[str], partitioners: "Sequence[Partitioner]"
) -> "EdgeProgramManager":
    """Rewrite `program`, of `job`, by the rewrites `names`, and hand its parts to delegates."""
    from executorch.exir import to_edge_transform_and_lower
    from executorch.exir.operator.util import _QUANT_PRIMITIVES
    from executorch.exir.passes.constant_prop_pass import constant_prop_pass

    knows = _known()
    program = rewrites.simpler(rewrites.apply(program, names), knows)
    # Folding takes constants out of a table that the rewritten program shares with the captured one.
    program._constants = dict(program._constants)
    # What the rewrites made of constants is constant too, but only once something has computed it.
    # Dequantised int8 weights are constants too, and folding those would undo the recipe.
    skip: Any = set(_QUANT_PRIMITIVES)  # annotated for edge operations; this program is not one yet
    program = constant_prop_pass(program, custom_skip_targets=skip)
    # What it has folded keeps its strides, and parts of one tensor share its memory; the serialiser writes a constant
    # from the start of its memory on, and the runtime refuses strides that it did not expect.
    dense(program)
    with _lacking.told("executorch", job, program, knows):
        return to_edge_transform_and_lower(program, partitioner=list(partitioners))


def _known() -> Callable[[Node], bool]:
    """Whether lowering takes an operation, into one that runs.

    It is of Core ATen and the runtime has a kernel of it, or lowering itself takes it apart and we do not.
    """
    taken_apart = default_decompositions().materialize().keys() - rewrites.own().keys()
    core = {torch.Tag.core, torch.Tag.view_copy}

    def known(node: Node) -> bool:
        if node.target in MISTAKEN or (node.target in OF_FLOAT32 and node.meta["val"].dtype == torch.float64):
            return False
        is_core = not core.isdisjoint(getattr(node.target, "tags", ()))
        return node.target in taken_apart or (is_core and not _kernels.lacks(node.target))

    return known


def lowered(job: Job, edge: "EdgeProgramManager", backend: str, reasons: Mapping[str, str] | None = None) -> Lowered:
    """The lowered program of `job`, to be written.

    `reasons` says of a node why `backend`'s partitioner declined it; what it does not name, the backend lacks.
    Raises RefusedError where the runtime lacks a kernel of what no delegate takes.
    """
    lacking = [node.target._op for node in edge.exported_program().graph.nodes if _kernels.lacks(node.target)]
    if lacking:
        raise _lacking.refusal("executorch", job, sorted({str(operation) for operation in lacking}))
    left = _fallbacks(edge.exported_program(), reasons or {}, f"{backend} has no such operation")
    return Lowered(fallbacks=left, content=edge)


def write(methods: Mapping[str, Lowered], path: Path) -> None:
    """Write lowered programs to `path`, as methods of these names; what delegates hold by a hash they hold once."""
    from executorch.exir import EdgeProgramManager, ExecutorchBackendConfig
    from executorch.exir.passes.init_mutable_pass import InitializedMutableBufferPass

    programs: dict[str, ExportedProgram] = {name: made.content.exported_program() for name, made in methods.items()}
    edge: EdgeProgramManager = next(iter(methods.values())).content
    if programs.keys() != edge.methods:  # each was checked when lowered, with the operations that its backend wants
        edge = EdgeProgramManager(programs, compile_config=replace(edge.compile_config, _check_ir_validity=False))
    keeps = any(program.graph_signature.buffers_to_mutate for program in programs.values())
    # Without that pass state begins as whatever is in its memory.
    passes: list[Any] = [InitializedMutableBufferPass([_state.INPUT])] if keeps else []
    config = ExecutorchBackendConfig(passes=passes, to_out_var_pass=_orders.kept())
    path.write_bytes(edge.to_executorch(config).buffer)


def _fallbacks(program: ExportedProgram, reasons: Mapping[str, str], otherwise: str) -> list[Fallback]:
    """Operations left outside every delegate."""
    left: list[Fallback] = []
    for node in program.graph.nodes:
        target: Any = node.target
        name = str(getattr(target, "__name__", target))
        if node.op != "call_function" or name in NO_FALLBACK:
            continue
        stack = node.meta.get("nn_module_stack") or {}
        module = str(list(stack.values())[-1][0]) if stack else ""
        left.append(Fallback(op=name, module=module, reason=reasons.get(node.name, otherwise)))
    return left
