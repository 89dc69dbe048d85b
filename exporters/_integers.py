"""Inputs of narrow integers and truth values as int32, for a format that has no such inputs.

    before   x(uint8) ─ permute ─ div 255 ─ y        after   x(int32) ─ permute ─ div 255 ─ y
    before   x(uint8) ─ add 200 ─ y                  after   x(int32) ─ add 200 ─ remainder 256 ─ y
    before   m(bool) ─ logical_not ─ y               after   m(int32) ─ to(bool) ─ logical_not ─ y

int32 holds every value of the narrower types, so what only moves or reads them stays as it is; where an operation gives
a narrow integer, what goes beyond its range comes round again, as it does in torch.
"""

from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node
from torch.fx.node import map_aggregate

from edgepass.exporters._capture import Program
from edgepass.quantize import tables

ATEN = torch.ops.aten
NARROW = {torch.uint8, torch.int8, torch.int16}
CHECK = ATEN._assert_tensor_metadata.default
"""What torch.export writes beside a cast: that a tensor has the type which it then has no more."""
MOVES = {
    "alias", "cat", "chunk", "clone", "contiguous", "detach", "expand", "flip", "gather", "index", "index_select",
    "masked_fill", "movedim", "narrow", "permute", "repeat", "reshape", "roll", "select", "slice", "split",
    "split_with_sizes", "squeeze", "stack", "t", "tile", "transpose", "unbind", "unflatten", "unsqueeze", "view",
    "where", "amax", "amin", "max", "min", "maximum", "minimum", "clamp", "relu", "max_pool2d", "topk", "sort",
}  # fmt: skip
"""Operations that give nothing but what they were given."""


def wide(program: Program, exported: ExportedProgram) -> ExportedProgram:
    """`exported`, of the shapes of `program`, with int32 in the place of such inputs; as it is without any."""
    if not any(arg.dtype in NARROW | {torch.bool} for arg in program.args):
        return exported
    module: GraphModule = exported.module()
    narrow = {node: dtype for node in module.graph.nodes if (dtype := _narrow(node))}
    for node in list(module.graph.nodes):
        if node.target is CHECK:
            module.graph.erase_node(node)
        elif node.op == "placeholder":
            _widen_input(node)
        elif node in narrow:
            _widen(module, node, narrow[node])
    module.recompile()
    args = tuple(arg.to(torch.int32) if arg.dtype in NARROW | {torch.bool} else arg for arg in program.args)
    return program.retrace(module, args)


def _narrow(node: Node) -> torch.dtype | None:
    """The type that it gives, where that is a narrow integer that no quantiser put there."""
    value = node.meta.get("val")
    read = node.args[0] if node.target is ATEN.embedding.default else node
    if isinstance(read, Node) and read.op == "get_attr" and str(read.target).endswith(tables.ROWS):
        return None
    ours = node.op == "get_attr" or (isinstance(node.target, OpOverload) and node.target.namespace == "aten")
    return value.dtype if ours and isinstance(value, Tensor) and value.dtype in NARROW else None


def _widen_input(node: Node) -> None:
    if node.meta["val"].dtype == torch.bool:
        _behind(node, ATEN.to.dtype, torch.bool)


def _widen(module: GraphModule, node: Node, dtype: torch.dtype) -> None:
    """Let `node` give int32 of the same values."""
    if node.op == "get_attr":
        if not any("quantized" in str(user.target) for user in node.users):
            owner, _, name = str(node.target).rpartition(".")
            setattr(module.get_submodule(owner), name, attrgetter(str(node.target))(module).to(torch.int32))
        return

    def int32(argument: Any) -> Any:
        return torch.int32 if argument is dtype else argument

    node.args, node.kwargs = map_aggregate(node.args, int32), map_aggregate(node.kwargs, int32)
    if str(node.target).split(".")[1] not in MOVES:
        size, low = 2 ** torch.iinfo(dtype).bits, torch.iinfo(dtype).min
        if low:
            _behind(_behind(_behind(node, ATEN.sub.Tensor, low), ATEN.remainder.Scalar, size), ATEN.add.Tensor, low)
        else:
            _behind(node, ATEN.remainder.Scalar, size)


def _behind(node: Node, operation: OpOverload, argument: int | torch.dtype) -> Node:
    """The operation of the node and an argument, in the place of the node wherever that is read."""
    with node.graph.inserting_after(node):
        made = node.graph.call_function(operation, (node, argument))
    node.replace_all_uses_with(made, lambda user: user is not made)
    return made
