"""The audit: is every weight in the file in the number format that the recipe asked for?

Files lose the names of modules, reorder dimensions and drop those of size one, so a weight is recognised by its
dimensions, sorted; among equals, whichever holds the format that was asked for is counted first. A file may hold equal
weights once.
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.export import ExportedProgram

from edgepass.judging.manifest import Audit, Weight
from edgepass.quantize.pt2e import WEIGHTED, module_path
from edgepass.quantize.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Requested:
    """A weight of the model that a recipe speaks of."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    values: str = ""
    """A hash of them and their shape; empty where they are not known."""


def requested(
    program: ExportedProgram, recipe: Recipe, spared: Collection[OpOverload] = frozenset()
) -> list[Requested]:
    """Every weight of a linear or convolution that the recipe does not keep in float32, once each.

    Weights of operations in `spared` are not asked for: a target has said that it cannot do them.
    """
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    wanted: dict[str, Requested] = {}
    for node in program.graph.nodes:
        if node.target not in WEIGHTED - set(spared) or recipe.keeps(module_path(node)):
            continue
        name = names.get(node.args[1].name)
        if name is not None:
            shape = tuple(int(n) for n in node.args[1].meta["val"].shape)
            values = program.state_dict[name] if name in program.state_dict else program.constants[name]
            assert isinstance(values, Tensor)
            wanted[name] = Requested(name=name, shape=shape, dtype=recipe.weights, values=_hash(values))
    return list(wanted.values())


def audit(recipe: str, wanted: Sequence[Requested], found: Sequence[Weight]) -> Audit:
    """What was asked for beside what the file holds.

    A requested weight that the file has nothing of, stands in the list with dtype "absent". Constants that the recipe
    does not speak of follow, with `requested` null. Coverage counts elements; it is None when nothing was requested.
    """
    stock: dict[tuple[int, ...], list[Weight]] = defaultdict(list)
    for weight in found:
        stock[_key(weight.shape)].append(weight)
    rows: dict[str, Weight] = {}
    held: dict[str, Weight] = {}
    covered = 0
    for want in _repeats_last(wanted):
        candidates = stock[_key(want.shape)]
        match = next((w for w in candidates if w.dtype == want.dtype), candidates[0] if candidates else None)
        if match is not None:
            candidates.remove(match)
        elif want.values:
            match = held.get(want.values)
        if match is None:
            rows[want.name] = Weight(name=want.name, shape=want.shape, dtype="absent", requested=want.dtype)
            continue
        held.setdefault(want.values, match)
        rows[want.name] = replace(match, name=want.name, requested=want.dtype)
        covered += prod(want.shape) if match.dtype == want.dtype else 0
    total = sum(prod(w.shape) for w in wanted)
    rest = [weight for weights in stock.values() for weight in weights]
    return Audit(
        requested=recipe, weights=[rows[w.name] for w in wanted] + rest, coverage=covered / total if total else None
    )


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
