"""Tables: the rows of an embedding in int8, each on a grid of its own, as ordinary operations.

before   embedding(table f32[V, D], index)
after    embedding(rows i8[V, D], index) -> f32 * embedding(steps f32[V, 1], index)

The same numbers as a table on that grid, at a quarter of its bytes, and only the rows that are read are ever float.
"""

from operator import attrgetter

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from edgepass.quantize.pt2e import ATEN, module_path
from edgepass.quantize.recipe import Recipe
from edgepass.quantize.rounding import LEVELS

ROWS, STEPS = "_rows_int8", "_steps"
"""What the buffers of a table are called behind its own name."""


def in_int8(module: GraphModule, recipe: Recipe) -> None:
    """Put every table that is a parameter, and that `recipe` does not keep, into int8, in place."""
    for node in list(module.graph.find_nodes(op="call_function", target=ATEN.embedding.default)):
        table = node.args[0]
        if not isinstance(table, Node) or table.op != "get_attr" or recipe.keeps(module_path(node)):
            continue
        name = str(table.target)
        values = attrgetter(name)(module)
        if not isinstance(values, nn.Parameter) or values.dtype != torch.float32:
            continue
        rows, steps = rounded(values.detach())
        with module.graph.inserting_before(node):
            read = [
                module.graph.call_function(ATEN.embedding.default, (_held(module, name + of, value), *node.args[1:]))
                for of, value in ((ROWS, rows), (STEPS, steps))
            ]
            number = module.graph.call_function(ATEN.to.dtype, (read[0], torch.float32))
            product = module.graph.call_function(ATEN.mul.Tensor, (number, read[1]))
        for made in (*read, number, product):
            made.meta = {key: value for key, value in node.meta.items() if key != "val"}
        node.replace_all_uses_with(product)
        module.graph.erase_node(node)
    module.graph.eliminate_dead_code()
    module.recompile()


def in_float(module: GraphModule) -> None:
    """Hold every table that `in_int8` made as the float32 numbers that it stands for, in place."""
    for node in list(module.graph.find_nodes(op="call_function", target=ATEN.embedding.default)):
        name = str(node.args[0].target) if isinstance(node.args[0], Node) else ""
        if name.endswith(ROWS):
            whole = name.removesuffix(ROWS)
            values = attrgetter(name)(module).float() * attrgetter(whole + STEPS)(module)
            (number,) = node.users
            (product,) = number.users
            with module.graph.inserting_before(node):
                node.update_arg(0, _held(module, f"{whole}_on_grid", values))
            product.replace_all_uses_with(node)
    module.graph.eliminate_dead_code()
    module.recompile()


def rounded(table: Tensor) -> tuple[Tensor, Tensor]:
    """Rows i8[V, D] and the step of each f32[V, 1], max|row| / 127; a row of zeros has the step 1."""
    step = table.abs().amax(1, keepdim=True) / LEVELS
    step = torch.where(step > 0, step, torch.ones_like(step))
    return (table / step).round().to(torch.int8), step


def _held(module: GraphModule, name: str, value: Tensor) -> Node:
    owner, _, leaf = name.rpartition(".")
    holder = module.get_submodule(owner)
    if not hasattr(holder, leaf):
        holder.register_buffer(leaf, value)
    return module.graph.get_attr(name)
