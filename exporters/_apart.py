"""A graph cut where LiteRT's converter would carry int8 from one operation to another that the recipe leaves in float.

    before   x ─┬─ quantise ─ linear ─ y     after   x   ─ quantise ─ linear ─ y
                └─ add ─ z                           x_1 ─ add ─ z

    before   … ─ dequantise ─┬─ where ─ z    after   … ─ dequantise ─ y_1
                         x ──┘                       y_2, x ─ where ─ z

It makes an input int8 wherever one operation reads it so, and all others then read what is left of it: a state, a
residual, an input that is given back. And it gives all that an operation like `where` chooses from the scale of one of
them, which cuts off what is larger. So every use of a float input is an input of its own, and what such an operation
reads leaves the graph and comes back. In the file they are one again (_flatbuffer.py).
"""

from dataclasses import dataclass, field
from operator import getitem
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from edgepass.quantize import weights

ATEN = torch.ops.aten
ONE_SCALE = {
    ATEN.where.self, ATEN.where.ScalarOther, ATEN.where.ScalarSelf, ATEN.masked_fill.Scalar, ATEN.masked_fill.Tensor,
    ATEN.maximum.default, ATEN.minimum.default, ATEN.clamp.Tensor, ATEN.clamp_min.Tensor, ATEN.clamp_max.Tensor,
    ATEN.cat.default, ATEN.stack.default, ATEN.hstack.default, ATEN.vstack.default, ATEN.dstack.default,
    ATEN.column_stack.default, ATEN.block_diag.default, ATEN.constant_pad_nd.default, ATEN.pad.default,
    ATEN.slice_scatter.default, ATEN.select_scatter.default, ATEN.diagonal_scatter.default,
}  # fmt: skip
"""What gives the numbers that it reads, which the converter therefore wants all of one scale."""
MOVES = weights.MOVES | {
    ATEN.slice.Tensor, ATEN.select.int, ATEN.expand.default, ATEN.flip.default, ATEN.unbind.int, ATEN.chunk.default,
    ATEN.split.Tensor, ATEN.split_with_sizes.default, getitem,
}  # fmt: skip
"""Through which it carries int8."""
PADS: dict[Any, int] = {ATEN.constant_pad_nd.default: 2, ATEN.pad.default: 3}
"""Where their number stands, which is 0 if nothing else is said; and 0 is in every scale."""


@dataclass(kw_only=True)
class Cut:
    """`args`: what the graph takes now. `copies`: for each new input the number of the one that it is.

    `joints`: for each further one the number of the output that it is, which is new as well where it is not below
    `outputs`.
    """

    args: tuple[Tensor, ...]
    outputs: int
    copies: list[int] = field(default_factory=list)
    joints: list[int] = field(default_factory=list)


def apart(module: GraphModule, args: tuple[Tensor, ...]) -> Cut:
    """Cut the graph of `module`, which takes `args`, in place."""
    graph = module.graph
    places = [node for node in graph.nodes if node.op == "placeholder"]
    given: list[Node] = list(graph.output_node().args[0])  # type: ignore[arg-type]  # torch.export's are tuples
    cut = Cut(args=args, outputs=len(given))
    last = places[-1]

    def new_input(source: Node, users: list[Node]) -> None:
        nonlocal last
        with graph.inserting_after(last):
            last = graph.placeholder(f"{source.name}_{len(cut.args)}")
        last.meta = dict(source.meta)
        for user in users:
            user.replace_input_with(source, last)
        value = source.meta["val"]
        cut.args = (*cut.args, torch.zeros(value.shape, dtype=value.dtype))

    for number, place in enumerate(places):
        if args[number].is_floating_point():
            for users in list(_uses(place).values())[1:]:
                new_input(place, users)
                cut.copies.append(number)
    for node in list(graph.nodes):
        for source, users in _carried(node):
            new_input(source, users)
            cut.joints.append(given.index(source) if source in given else len(given))
            if source not in given:
                given.append(source)
    if len(cut.args) > len(args):
        graph.output_node().args = (tuple(given),)
        info = graph._codegen.pytree_info  # type: ignore[attr-defined]  # torch.export's codegen has it
        graph._codegen.pytree_info = info._replace(  # type: ignore[attr-defined]
            orig_args=[node.name for node in graph.nodes if node.op == "placeholder"],
            in_spec=pytree.tree_structure((tuple(0 for _ in cut.args), {})),
            out_spec=pytree.tree_structure(tuple(0 for _ in given)),
        )
        module.recompile()
    return cut


def _uses(place: Node) -> dict[object, list[Node]]:
    """The operations that read it, those that quantise it in the same steps together."""
    found: dict[object, list[Node]] = {}
    for user in place.users:
        if user.op == "call_function":  # and not torch.export's checks of shapes
            found.setdefault((user.target, *user.args[1:]) if _is(user, "quantize") else user, []).append(user)
    return found


def _carried(node: Node) -> list[tuple[Node, list[Node]]]:
    """What `node` reads in int8, and what reads it so, unless it is whole in int8: each with its readers."""
    if node.target not in ONE_SCALE or not _is_real(node):
        return []
    at = PADS.get(node.target)
    if at is not None and not (node.args[at] if len(node.args) > at else node.kwargs.get("value")):
        return []
    read = [source for source in node.all_input_nodes if _is_real(source)]
    into, out = (
        [s for s in read if _is(_moved_from(s), "dequantize")],
        [user for user in node.users if _is(user, "quantize")],
    )
    if len(into) == len(read) and len(out) == len(node.users):
        return []
    return [*((source, [node]) for source in into), *([(node, out)] if out else [])]


def _moved_from(node: Node) -> Node:
    while node.target in MOVES:
        node = node.all_input_nodes[0]
    return node


def _is(node: Node, word: str) -> bool:
    return str(node.target).startswith(f"quantized_decomposed.{word}_per_tensor")


def _is_real(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.is_floating_point()
