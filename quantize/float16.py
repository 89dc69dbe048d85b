"""float16: the whole graph in half precision but for the parts that are kept, inputs and outputs still float32.

before   x(f32) ─ kept ─ linear ─ … ─ y(f32)
after    x(f32) ─ kept ─ to(f16) ─ linear(f16 weights) ─ … ─ to(f32) ─ y(f32)
"""

from collections.abc import Collection
from math import copysign, inf
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import GraphModule, Node
from torch.fx.node import map_aggregate, map_arg

from edgepass.quantize import norms
from edgepass.quantize.pt2e import module_path
from edgepass.quantize.recipe import Recipe

ATEN = torch.ops.aten
FILLS = {
    ATEN.masked_fill.Scalar, ATEN.masked_fill_.Scalar, ATEN.full.default, ATEN.full_like.default, ATEN.new_full.default,
    ATEN.scalar_tensor.default, ATEN.where.Scalar, ATEN.where.ScalarOther, ATEN.where.ScalarSelf, ATEN.fill.Scalar,
    ATEN.pad.default, ATEN.constant_pad_nd.default,
}  # fmt: skip
"""Operations that fill with a number; no other is given less than it says, a factor of 1e6 least of all."""
LARGEST = torch.finfo(torch.float16).max


def to_float16(module: GraphModule, recipe: Recipe, keep_ops: Collection[OpOverload] = ()) -> GraphModule:
    """`module` in float16, changed in place; nodes that `recipe` keeps, and operations in `keep_ops`, stay float32.

    Batch norms become part of the layers before them, and a constant float16 when every user of it computes in float16.
    """
    norms.fold(module, recipe)
    wanted = {n: _dtype(n, recipe, keep_ops) for n in module.graph.nodes}
    realised: dict[Node, torch.dtype] = {}
    for node in list(module.graph.nodes):
        if node.op == "get_attr":
            half = bool(node.users) and all(wanted[user] == torch.float16 for user in node.users)
            if half and _is_float(node):
                _halve(module, str(node.target))
            realised[node] = torch.float16 if half else torch.float32
        elif node.op == "placeholder":
            realised[node] = torch.float32
        else:
            _cast_arguments(module, node, wanted[node], realised)
            if wanted[node] == torch.float16:
                _ask_for_halves(node)
            realised[node] = torch.float32 if _is_of_integers(node) else wanted[node]
    module.graph.lint()
    module.recompile()
    return module


def _dtype(node: Node, recipe: Recipe, keep_ops: Collection[OpOverload]) -> torch.dtype:
    kept = node.op == "output" or node.target in keep_ops or recipe.keeps(module_path(node)) or _is_given_back(node)
    return torch.float32 if kept else torch.float16


def _is_given_back(node: Node) -> bool:
    """Whether it is an input that the model gives as it is, a state for one."""
    return node.target is ATEN.clone.default and node.all_input_nodes[0].op == "placeholder"


def _cast_arguments(module: GraphModule, node: Node, dtype: torch.dtype, realised: dict[Node, torch.dtype]) -> None:
    def cast(argument: Node) -> Node:
        if not _is_float(argument) or realised.get(argument, dtype) == dtype:
            return argument
        with module.graph.inserting_before(node):
            converted = module.graph.call_function(torch.ops.aten.to.dtype, (argument, dtype))
        converted.meta = {k: v for k, v in argument.meta.items() if k != "val"}
        return converted

    node.args = map_arg(node.args, cast)
    node.kwargs = map_arg(node.kwargs, cast)


def _ask_for_halves(node: Node) -> None:
    """Where an operation says the type of what it makes, as zeros and casts do, or leaves it to torch: float16.

    What it fills with and float16 cannot hold, as masks have, is the largest that it can.
    """

    def half(argument: Any) -> Any:
        return torch.float16 if argument is torch.float32 else argument

    node.args, node.kwargs = map_aggregate(node.args, half), map_aggregate(node.kwargs, half)
    if node.target in FILLS and _is_float(node):
        node.args, node.kwargs = map_aggregate(node.args, _held), map_aggregate(node.kwargs, _held)
    schema = getattr(node.target, "_schema", None)
    typed = schema is not None and any(argument.name == "dtype" for argument in schema.arguments)
    if typed and not node.all_input_nodes and _is_float(node):
        node.update_kwarg("dtype", torch.float16)


def _is_of_integers(node: Node) -> bool:
    """Whether it makes float32 of integers because torch does so unasked, as `image / 255` of uint8."""
    values = [source.meta.get("val") for source in node.all_input_nodes]
    integers = values and all(isinstance(v, torch.Tensor) and not v.dtype.is_floating_point for v in values)
    asked = torch.float16 in (*node.args, *node.kwargs.values())
    return bool(integers) and _is_float(node) and not asked


def _held(argument: Any) -> Any:
    beyond = isinstance(argument, float) and LARGEST < abs(argument) < inf
    return copysign(LARGEST, argument) if beyond else argument


def _is_float(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dtype == torch.float32


def _halve(module: GraphModule, name: str) -> None:
    owner_name, _, leaf = name.rpartition(".")
    owner = module.get_submodule(owner_name)
    tensor = getattr(owner, leaf)
    if tensor.dtype != torch.float32:
        return
    half = tensor.detach().to(torch.float16)
    setattr(
        owner, leaf, torch.nn.Parameter(half, requires_grad=False) if isinstance(tensor, torch.nn.Parameter) else half
    )
