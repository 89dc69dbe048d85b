"""What weights alone decide, computed once.

    before   v, g ─ weight_norm ─ W ─┐              after   W ─┐
                                x ─ linear ─ y              x ─ linear ─ y

A quantiser makes only a constant int8, and a weight that is computed is none. Never folded is what would take more room
than the weights that it is made of, a table spread over a batch, say; a computed weight of a layer always is, and takes
the name of the one that it is made of where nothing else does.
"""

from collections import deque

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from edgepass.exporters._canonical._constants import Constants, attribute, forget, register
from edgepass.quantize.pt2e import CUBIC, WEIGHTED


def fold(module: GraphModule) -> bool:
    """Put constants in the place of arithmetic on parameters, in the graph of `module`; whether there was any."""
    constants = Constants(module)
    made: dict[str, frozenset[str]] = {}
    ends = [node for node in module.graph.nodes if node in constants.nodes and set(node.users) - constants.nodes]
    todo = deque(ends)
    folded: list[Node] = []
    while todo:
        node = todo.popleft()
        if node.op == "get_attr" or node in folded or not (constants.weights[node] or _is_layers_weight(node)):
            continue
        if _is_worth_it(node, constants):
            _put(module, node, constants, made)
            folded.append(node)
        else:
            todo.extend(node.all_input_nodes)
    if not folded:
        return False
    before = _used(module)
    module.graph.eliminate_dead_code(lambda node: node not in constants.nodes and node.op != "get_attr")
    gone = before - _used(module)
    for name in gone:
        forget(module, name)
    for name in sorted(gone):
        _inherit(module, name, [own for own, names in made.items() if names == {name}])
    module.graph.lint()
    module.recompile()
    return True


def _is_worth_it(node: Node, constants: Constants) -> bool:
    value = constants.value(node)
    if not isinstance(value, Tensor):
        return False
    return _is_layers_weight(node) or value.numel() <= constants.elements(constants.weights[node])


def _is_layers_weight(node: Node) -> bool:
    return any(user.target in WEIGHTED | CUBIC and user.args[1] is node for user in node.users)


def _put(module: GraphModule, node: Node, constants: Constants, made: dict[str, frozenset[str]]) -> None:
    """The value of `node` beside the largest of what it is made of, which `made` tells; one of equal value serves.

    What forward makes of numbers alone is called as it is in the graph.
    """
    value = constants.value(node).detach()
    names = constants.weights[node] or constants.sources[node]
    largest = max(sorted(names), key=lambda name: attribute(module, name).numel(), default=None)
    same = next((name for name in (*sorted(names), *made) if _equal(attribute(module, name), value)), None)
    if same is None:
        same = _free_name(module, _plain_name(largest or node.name))
        register(module, same, value, like=attribute(module, largest) if largest else value)
        made[same] = names
    with module.graph.inserting_before(node):
        constant = module.graph.get_attr(same)
    constant.meta = dict(node.meta)
    for user in list(node.users):
        if user not in constants.nodes:
            user.replace_input_with(node, constant)


def _inherit(module: GraphModule, name: str, made: list[str]) -> None:
    """Call by the `name` of a tensor that is no longer there what was made of it alone, where that is one."""
    plain = _plain_name(name)
    if len(made) != 1 or _free_name(module, plain) != plain:
        return
    (own,) = made
    value = attribute(module, own)
    forget(module, own)
    register(module, plain, value, like=value)
    for node in module.graph.nodes:
        if node.op == "get_attr" and node.target == own:
            node.target = plain


def _equal(a: Tensor, b: Tensor) -> bool:
    """Whether one may stand for the other. Vectors never do: an int8 bias is in the steps of its own layer."""
    return a.dim() > 1 and a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)


def _plain_name(name: str) -> str:
    """Of a parametrised weight, the name that it has in the layer."""
    head, dot, tail = name.rpartition(".parametrizations.")
    return f"{head}.{tail.partition('.')[0]}" if dot else name


def _free_name(module: GraphModule, name: str) -> str:
    owner_name, _, leaf = name.rpartition(".")
    owner = module.get_submodule(owner_name)
    tried = (leaf if n < 0 else f"{leaf}_{n}" for n in range(-1, 1 << 20))
    free = next(other for other in tried if not hasattr(owner, other))
    return f"{owner_name}.{free}" if owner_name else free


def _used(module: GraphModule) -> set[str]:
    return {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
