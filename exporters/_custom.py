"""Custom operations: each by its formula in torch, which is captured anew in its place."""

from collections.abc import Callable, Mapping
from typing import Any

from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.fx import GraphModule

from edgepass.errors import CaptureError

CORE_NAMESPACES = ("aten", "prim", "prims", "quantized_decomposed", "_operator", "higher_order")


def formulas(
    exported: ExportedProgram, table: Mapping[OpOverload, Callable[..., Any]]
) -> dict[OpOverload, Callable[..., Any]]:
    """What to compute in the place of each custom operation. Raises CaptureError for one that has no formula."""
    found = {
        node.target
        for module in graphs(exported.graph_module)
        for node in module.graph.nodes
        if isinstance(node.target, OpOverload) and node.target.namespace not in CORE_NAMESPACES
    }
    known = {op: table.get(op) or _defined_with(op) for op in found}
    opaque = sorted(str(op) for op, formula in known.items() if formula is None)
    if opaque:
        raise CaptureError(
            f"no formula in torch is known for the custom operation {', '.join(opaque)}; "
            "offer get_decompositions() -> {operation: function} in the model file"
        )
    return {op: formula for op, formula in known.items() if formula}


def decomposed(exported: ExportedProgram, known: Mapping[OpOverload, Callable[..., Any]]) -> GraphModule:
    """The program as a module that calls formulas, to be captured anew as the model itself was.

    As decompositions of a captured program they would be traced below autograd, where an attention already has the
    strides of the kernel that computes it here, and views that no other form of it allows.
    """
    module: GraphModule = exported.module()
    called = {op: _named(formula) for op, formula in known.items()}
    for graph in graphs(module):
        for node in graph.graph.nodes:
            node.target = called.get(node.target, node.target)
        graph.recompile()
    return module


def graphs(module: GraphModule) -> list[GraphModule]:
    """A graph with all that it calls: branches, loops."""
    return [m for m in module.modules() if isinstance(m, GraphModule)]


def _named(formula: Callable[..., Any]) -> Callable[..., Any]:
    """The same function with a name: a graph can call no lambda."""

    def function(*args: Any, **kwargs: Any) -> Any:
        return formula(*args, **kwargs)

    return function


def _defined_with(op: OpOverload) -> Callable[..., Any] | None:
    """The Python function behind an operation made by torch.library.custom_op, None for any other."""
    from torch._library.custom_ops import OPDEFS

    definition = OPDEFS.get(op.name().partition(".")[0])
    return None if definition is None else definition._init_fn
