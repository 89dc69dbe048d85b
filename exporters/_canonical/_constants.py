"""Which nodes of a graph are constant, and their values."""

from functools import reduce
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from edgepass.quantize.pt2e import CUBIC, WEIGHTED


class Constants:
    """Nodes whose values no input decides. A value is computed when it is asked for, and kept."""

    def __init__(self, module: GraphModule) -> None:
        self.module = module
        self.nodes: set[Node] = set()
        self.weights: dict[Node, frozenset[str]] = {}
        """Constant node -> names of the parameters that it is made of."""
        self.sources: dict[Node, frozenset[str]] = {}
        """Constant node -> names of the parameters and buffers that it is made of."""
        self._values: dict[Node, Any] = {}
        self.changed = _changed(module)
        """Nodes whose memory an operation may write to."""
        for node in module.graph.nodes:
            if node in self.changed:
                continue
            if node.op == "get_attr":
                value = attribute(module, str(node.target))
                if isinstance(value, Tensor):
                    self.nodes.add(node)
                    is_weight = isinstance(value, nn.Parameter)
                    self.weights[node] = frozenset({str(node.target)} if is_weight else ())
                    self.sources[node] = frozenset({str(node.target)})
            elif _is_pure(node) and all(argument in self.nodes for argument in node.all_input_nodes):
                self.nodes.add(node)
                self.weights[node] = frozenset().union(*(self.weights[a] for a in node.all_input_nodes))
                self.sources[node] = frozenset().union(*(self.sources[a] for a in node.all_input_nodes))

    def is_weight(self, node: Any) -> bool:
        """Whether `node` is a parameter, or made of parameters alone."""
        return isinstance(node, Node) and bool(self.weights.get(node))

    def value(self, node: Node) -> Any:
        """Of a constant node."""
        if node not in self._values:
            with torch.no_grad():
                if node.op == "get_attr":
                    self._values[node] = attribute(self.module, str(node.target))
                else:
                    args, kwargs = map_arg((node.args, node.kwargs), self.value)
                    self._values[node] = node.target(*args, **kwargs)  # type: ignore[operator]  # a call_function node
        return self._values[node]

    def elements(self, names: frozenset[str]) -> int:
        """Of these parameters together."""
        return sum(prod(attribute(self.module, name).shape) for name in names)


def attribute(module: GraphModule, name: str) -> Any:
    """What a node that gets `name` gets."""
    return reduce(getattr, name.split("."), module)


def register(module: GraphModule, name: str, value: Tensor, *, like: Tensor) -> None:
    """Keep `value` by `name`: a parameter where `like` is one, else a buffer."""
    owner = module.get_submodule(name.rpartition(".")[0])
    own = value.clone(memory_format=torch.contiguous_format)
    if isinstance(like, nn.Parameter):
        owner.register_parameter(name.rpartition(".")[2], nn.Parameter(own, requires_grad=False))
    else:
        owner.register_buffer(name.rpartition(".")[2], own)


def forget(module: GraphModule, name: str) -> None:
    """Take away what a node that gets `name` would get."""
    owner, _, leaf = name.rpartition(".")
    delattr(module.get_submodule(owner), leaf)


def _changed(module: GraphModule) -> set[Node]:
    """Nodes whose memory an operation may write to: its first argument, and what that may be a view of."""
    todo = [
        node.all_input_nodes[0]
        for node in module.graph.nodes
        if isinstance(node.target, OpOverload) and node.target._schema.is_mutable and node.all_input_nodes
    ]
    found: set[Node] = set()
    while todo:
        node = todo.pop()
        if node not in found:
            found.add(node)
            todo.extend(() if _is_fresh(node) else node.all_input_nodes)
    return found


def _is_fresh(node: Node) -> bool:
    """Whether what an operation gives has memory of its own, whatever it is given.

    A layer has, and what has kernels of its own and says of no argument that it gives a view of it; of what torch takes
    apart one cannot tell: a dropout gives the very tensor that it is given.
    """
    if node.target in WEIGHTED | CUBIC:
        return True
    operation = node.target
    return isinstance(operation, OpOverload) and not operation.is_view and not operation._can_decompose()


def _is_pure(node: Node) -> bool:
    """Whether a node is an operation that gives the same for the same arguments and changes none of them."""
    if node.op != "call_function":
        return False
    if not isinstance(node.target, OpOverload):
        return getattr(node.target, "__name__", "") == "getitem"
    tags = node.target.tags
    random = torch.Tag.nondeterministic_seeded in tags
    return not random and not node.target._schema.is_mutable
