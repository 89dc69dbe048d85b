"""The audit: is every weight in the file in the number format that the recipe asked for?

Asked for is every parameter that takes part in a product, a convolution, a lookup or a recurrent layer, whatever views
and casts lie between, in branches and loops too. Vectors are not: converters add biases and scales together. What a
recipe or a target leaves in float is named with the reason.

Files lose the names of modules, reorder dimensions and drop those of size one, so a weight is recognised by its
dimensions, sorted; among equals, whichever holds the format that was asked for is counted first. A file may hold equal
weights once, one weight in parts (groups), and several as one (the gates of a recurrent layer).
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor
from torch._ops import HigherOrderOperator, OpOverload
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from edgepass.judging.manifest import Audit, Weight
from edgepass.quantize.pt2e import (
    ATEN,
    CONVOLUTIONS,
    CUBIC,
    LOOKUPS,
    PRODUCTS,
    RECURRENT,
    TRANSPOSED,
    WEIGHTED,
    module_path,
)
from edgepass.quantize.recipe import Recipe

MOVES = {
    ATEN.view.default, ATEN.reshape.default, ATEN.transpose.int, ATEN.permute.default, ATEN.unsqueeze.default,
    ATEN.squeeze.dim, ATEN.squeeze.dims, ATEN.clone.default, ATEN.contiguous.default, ATEN.flatten.using_ints,
    ATEN.alias.default, ATEN.expand.default, ATEN.to.dtype, ATEN.t.default, ATEN.numpy_T.default, ATEN.slice.Tensor,
    ATEN.select.int, ATEN.repeat.default,
}  # fmt: skip
"""Operations that a weight is followed through to the one that uses it."""
FLOAT_IN_INT8 = {
    LOOKUPS: "a lookup, which the quantiser whose graph all targets share leaves in float",
    CUBIC: "a convolution over three dimensions, which the quantiser whose graph all targets share leaves in float",
    PRODUCTS: "a product with a matrix for each member of a batch, which no quantiser has per channel",
    RECURRENT: "a recurrent layer, which is quantised nowhere before it is taken apart",
}
GROUPED = "a transposed convolution in groups, which the quantiser whose graph all targets share leaves in float"
INDEXED = frozenset({ATEN.index.Tensor, ATEN.index_select.default})
TABLE = "a table that is read by index, which converters lay out and round as any other value"
BRANCH = "inside a branch or a loop, which no quantiser enters"
KEPT = "kept in float32 by the recipe or the model"
DECIDED = "no input decides what is read of it, so a converter may keep the result in its place"
MOST_JOINED = 8
"""Weights that a file may hold as one: the gates of a recurrent layer and its two directions."""


@dataclass(frozen=True, kw_only=True)
class Requested:
    """A weight of the model that a recipe speaks of.

    `reason`: why it stays in float against the recipe; empty where the recipe holds.
    `groups`: of a convolution; a file may hold each of them as a weight.
    `joins`: whether a file may hold it with others as one.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    values: str = ""
    """A hash of them and their shape; empty where they are not known."""
    reason: str = ""
    groups: int = 1
    joins: bool = False


def requested(
    program: ExportedProgram, recipe: Recipe, spared: Collection[OpOverload] = frozenset(), why: str = ""
) -> list[Requested]:
    """Every weight that takes part, once each; those that the recipe keeps or the target spares with the reason.

    spared: operations whose weights a target cannot make so, and `why`.
    """
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    wanted: dict[str, Requested] = {}
    decided = _decided(program)
    for node, outer in _operations(program.graph_module):
        for weight in _weights_of(node):
            name = names.get(_followed(weight, outer).name)
            if name is None or (name in signature.inputs_to_buffers.values() and node.target not in WEIGHTED):
                continue
            values = program.state_dict[name] if name in program.state_dict else program.constants[name]
            assert isinstance(values, Tensor)
            reason = DECIDED if node in decided else _reason(node, recipe, spared, why, inside=bool(outer))
            if values.dim() < 2 or (name in wanted and not wanted[name].reason):
                continue  # what one operation has in int8, another cannot have in float besides
            shape = tuple(int(n) for n in values.shape)
            wanted[name] = Requested(
                name=name,
                shape=shape,
                dtype=recipe.weights,
                values=_hash(values),
                reason=reason,
                groups=_groups(node),
                joins=node.target in RECURRENT,
            )
    return list(wanted.values())


def _operations(
    module: GraphModule, outer: Mapping[Node, Node] | None = None
) -> Iterator[tuple[Node, Mapping[Node, Node]]]:
    """Every operation, with what stands outside for the inputs of the branch or loop that it is in."""
    outer = outer or {}
    for node in module.graph.nodes:
        yield node, outer
        if isinstance(node.target, HigherOrderOperator):
            given = [argument for argument in pytree.tree_leaves(node.args) if isinstance(argument, Node)]
            for called in (getattr(module, str(n.target)) for n in given if n.op == "get_attr"):
                if isinstance(called, GraphModule):  # whose inputs are the last that the operation is given
                    inputs = called.graph.find_nodes(op="placeholder")
                    yield from _operations(called, {**outer, **dict(zip(inputs, given[-len(inputs) :], strict=True))})


def _decided(program: ExportedProgram) -> set[Node]:
    """Operations whose results no input of the model has a part in."""
    inputs = set(program.graph_signature.user_inputs)
    found: set[Node] = set()
    for node in program.graph.nodes:
        is_constant = node.op == "placeholder" and node.name not in inputs
        if is_constant or (node.op == "call_function" and found.issuperset(node.all_input_nodes)):
            found.add(node)
    return found


def _weights_of(node: Node) -> Iterator[Node]:
    """What an operation may read as weights."""
    if node.target in WEIGHTED | CUBIC:
        found = [node.args[1]]
    elif node.target in LOOKUPS | INDEXED:
        found = [node.args[0]]
    elif node.target in PRODUCTS | RECURRENT:
        found = list(node.all_input_nodes)
    else:
        found = []
    yield from (weight for weight in found if isinstance(weight, Node))


def _followed(node: Node, outer: Mapping[Node, Node]) -> Node:
    """Where a weight comes from; `outer`: what stands for the inputs of a graph that is called."""
    while node.target in MOVES or node in outer:
        node = outer[node] if node in outer else node.all_input_nodes[0]
    return node


def _reason(node: Node, recipe: Recipe, spared: Collection[OpOverload], why: str, *, inside: bool) -> str:
    if recipe.keeps(module_path(node)):
        return KEPT
    if node.target in spared:
        return why
    if node.target in INDEXED:
        return TABLE
    if inside and recipe.weights == "int8":
        return BRANCH
    if recipe.weights != "int8":
        return ""
    if node.target in TRANSPOSED and recipe.scheme != "weight-only" and _groups(node) > 1:
        return GROUPED
    if node.target is ATEN.embedding.default and recipe.scheme == "static":
        return ""  # `tables` does
    return next((said for operations, said in FLOAT_IN_INT8.items() if node.target in operations), "")


def _groups(node: Node) -> int:
    """Of a convolution; 1 for any other operation."""
    if node.target not in (CONVOLUTIONS | CUBIC):
        return 1
    at = 8 if node.target == ATEN.convolution.default else 6
    groups = node.args[at] if len(node.args) > at else node.kwargs.get("groups", 1)
    assert isinstance(groups, int)
    return groups


def audit(recipe: str, wanted: Sequence[Requested], found: Sequence[Weight]) -> Audit:
    """What was asked for beside what the file holds.

    A weight that the file has nothing of stands in the list with dtype "absent". One that is left out with a reason is
    in the list with it, and is not counted unless the file holds it as the recipe says. Constants that the
    recipe does not speak of follow, with `requested` null. Coverage counts elements; it is None when nothing was
    requested.
    """
    stock = _Stock(found)
    asked = [want for want in wanted if not want.reason]
    left = [want for want in wanted if want.reason]
    rows: dict[str, Weight] = {}
    held: dict[str, Weight] = {}
    covered = total = 0
    for want in [*_repeats_last(asked), *left]:
        match = stock.take(want) or (held.get(want.values) if want.values else None)
        size = prod(want.shape)
        if want.reason and (match is None or match.dtype != want.dtype):
            match = match or Weight(name=want.name, shape=want.shape, dtype="absent")
            rows[want.name] = replace(match, name=want.name, reason=want.reason)
            continue
        total += size
        if match is None:
            rows[want.name] = Weight(name=want.name, shape=want.shape, dtype="absent", requested=want.dtype)
            continue
        held.setdefault(want.values, match)
        rows[want.name] = replace(match, name=want.name, requested=want.dtype)
        covered += size if match.dtype == want.dtype else 0
    known = [rows[want.name] for want in wanted if want.name in rows]
    return Audit(requested=recipe, weights=known + stock.rest(), coverage=covered / total if total else None)


class _Stock:
    """The constants of a file that nobody has asked for yet."""

    def __init__(self, found: Sequence[Weight]) -> None:
        self.of_key: dict[tuple[int, ...], list[Weight]] = defaultdict(list)
        self.joined: list[tuple[tuple[int, ...], Weight]] = []
        for weight in found:
            self.of_key[_key(weight.shape)].append(weight)

    def rest(self) -> list[Weight]:
        """Those that still nobody has asked for."""
        return [weight for weights in self.of_key.values() for weight in weights]

    def take(self, want: Requested) -> Weight | None:
        """The weight of these dimensions; or its parts, or one that it is a part of. None where there is none."""
        key = _key(want.shape)
        whole = self._taken(key, 1, want.dtype)
        if whole:
            return whole[0]
        for size in sorted({n for n in key if want.groups > 1 and n % want.groups == 0}):
            one = _replaced(key, size, size // want.groups)
            parts = self._taken(one, want.groups, want.dtype)
            for other in (1, *one):  # a converter may lay the groups along another dimension
                parts = parts or self._taken(_replaced((1, *one), other, other * want.groups), 1, want.dtype)
            if parts:
                worst = next((w for w in parts if w.dtype != want.dtype), parts[0])
                return replace(worst, shape=want.shape)
        return self._part_of_another(key, want) if want.joins else None

    def _taken(self, key: tuple[int, ...], count: int, dtype: str) -> list[Weight]:
        candidates = self.of_key[key]
        if len(candidates) < count:
            return []
        chosen = sorted(candidates, key=lambda weight: weight.dtype != dtype)[:count]
        for weight in chosen:
            candidates.remove(weight)
        return chosen

    def _part_of_another(self, key: tuple[int, ...], want: Requested) -> Weight | None:
        for place, (part, weight) in enumerate(self.joined):
            if part == key:
                del self.joined[place]
                return replace(weight, shape=want.shape)
        for count in range(2, MOST_JOINED + 1):
            for larger in {_key((*key, count)), *(_replaced(key, size, size * count) for size in key)}:
                if taken := self._taken(larger, 1, want.dtype):
                    self.joined += [(key, taken[0])] * (count - 1)
                    return replace(taken[0], shape=want.shape)
        return None


def _replaced(key: tuple[int, ...], size: int, other: int) -> tuple[int, ...]:
    sizes = list(key)
    sizes[sizes.index(size)] = other
    return _key(sizes)


def _repeats_last(wanted: Sequence[Requested]) -> list[Requested]:
    """Those that equal an earlier one last: in a file that holds equals once, they take no other weight's place."""
    seen: set[str] = set()
    first: list[Requested] = []
    again: list[Requested] = []
    for want in wanted:
        (again if want.values and want.values in seen else first).append(want)
        seen.add(want.values)
    return first + again


def _hash(values: Tensor) -> str:
    content: bytes = values.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(str(tuple(values.shape)).encode() + content).hexdigest()


def _key(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(n for n in shape if n != 1))
