"""Round to nearest, in torch: what a format's own quantiser makes int8 beyond a recipe's graph.

weight   each row or output channel on a grid of its own, max|row| / 127
layer    what it reads, too, under a dynamic recipe: 256 steps between the least and the largest as it arrives
"""

from collections.abc import Collection

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import GraphModule, Node

from edgepass.quantize.pt2e import LOOKUPS, TRANSPOSED, module_path
from edgepass.quantize.recipe import Recipe
from edgepass.quantize.rounding import LEVELS

STEPS = 255
"""Between the least and the largest of 8 bits."""


def make_int8(module: GraphModule, recipe: Recipe, operations: Collection[OpOverload]) -> None:
    """Put weights of these operations onto the int8 grid, to the nearest step, each row or output channel on its own.

    Under a dynamic recipe what layers among them read is rounded too, as it arrives; lookups read no numbers.
    """
    for node in [n for n in module.graph.nodes if n.target in operations and not recipe.keeps(module_path(n))]:
        is_lookup = node.target in LOOKUPS
        weight = node.args[0 if is_lookup else 1]
        if not isinstance(weight, Node) or weight.op != "get_attr":
            continue
        owner_name, _, leaf = str(weight.target).rpartition(".")
        owner = module.get_submodule(owner_name)
        rounded = _nearest(getattr(owner, leaf).detach(), 1 if node.target in TRANSPOSED else 0)
        setattr(owner, leaf, torch.nn.Parameter(rounded, requires_grad=False))
        if recipe.scheme == "dynamic" and not is_lookup:
            with module.graph.inserting_before(node):
                node.update_arg(0, module.graph.call_function(_as_it_arrives, (node.args[0],)))
    module.recompile()


def _nearest(weight: Tensor, axis: int) -> Tensor:
    others = [dim for dim in range(weight.dim()) if dim != axis]
    step = weight.abs().amax(others, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny) / LEVELS
    return (weight / step).round() * step


def _as_it_arrives(x: Tensor) -> Tensor:
    """x in 256 steps between its least and its largest number, zero among them."""
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    step = ((high - low) / STEPS).clamp(min=torch.finfo(x.dtype).tiny)
    least = (low / step).round()
    return (x / step).round().clamp(least, least + STEPS) * step
