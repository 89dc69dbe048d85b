"""The order in which a tensor's dimensions lie in memory, as the runtime's kernels write it."""

from collections.abc import Callable
from typing import Any

from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree


def kept() -> Callable[[GraphModule], Any]:
    """The step of lowering before which it is set right.

    torch lays out what `nonzero` gives column by column, and lowering writes so into the file. The kernel, as all of
    them do that take tensors in the order of their dimensions, writes row by row: it is read otherwise than written.
    """
    from executorch.exir.passes import ToOutVarPass

    step = ToOutVarPass()

    def after(module: GraphModule) -> Any:
        for part in module.modules():
            for node in part.graph.nodes if isinstance(part, GraphModule) else ():
                if _is_of_kernels(node) and all(map(_is_plain, _of(node.all_input_nodes))):
                    for spec in _of([node]):
                        _make_plain(spec)
        return step(module)

    return after


def _is_of_kernels(node: Node) -> bool:
    """Whether it is an operation that asks for no order itself, as those of `dim_order_ops` do."""
    return node.op == "call_function" and getattr(node.target, "namespace", "") == "aten"


def _of(nodes: list[Node]) -> list[Any]:
    from executorch.exir.tensor import TensorSpec

    specs = pytree.tree_leaves([node.meta.get("spec") for node in nodes])
    return [spec for spec in specs if isinstance(spec, TensorSpec)]


def _is_plain(spec: Any) -> bool:
    return list(spec.dim_order) == list(range(len(spec.dim_order)))


def _make_plain(spec: Any) -> None:
    from executorch.exir.tensor import contiguous_stride_from_shape

    if not _is_plain(spec):
        spec.stride, spec.dim_order = contiguous_stride_from_shape(spec.shape), tuple(range(len(spec.shape)))
