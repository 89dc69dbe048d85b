"""Rewrites: value-preserving changes to a program, made because a target runs the new form better.

A rewrite is a file with `TABLE`, from an ATen operation to a formula in torch that computes the same. The formula
replaces the operation wherever the program has it, so a user's own model gains as much as ours do.
"""

from collections.abc import Callable, Sequence
from typing import Any, Never, cast

import torch
from torch import Tensor
from torch._decomp import decomposition_table
from torch._ops import OperatorBase, OpOverload
from torch.export import ExportedProgram, default_decompositions
from torch.fx import Node

from edgepass import catalog

Table = dict[OperatorBase, Callable[..., Any]]
LEFT_ALONE: Never = cast(Any, NotImplemented)
"""What a formula gives for an operation that it leaves as it is: what torch.export takes for "not decomposed"."""
EPS = torch.finfo(torch.float32).eps
"""What torch adds in an RMS norm that names no number: of the model's float32, not of what it was rounded to since."""


def constant(value: float, like: Tensor) -> Tensor:
    """[1] of `like`'s dtype, [] beside a single number.

    A bare number would become a float32 tensor, and in a float16 graph a cast beside it.
    """
    return torch.full((1,) if like.dim() else (), value, dtype=like.dtype)


def each(numbers: int | Sequence[int], dims: int) -> list[int]:
    """One number for each of `dims` dimensions, where an operation may be given one for all."""
    row = [numbers] if isinstance(numbers, int) else list(numbers)
    return row * dims if len(row) == 1 else row


def apply(program: ExportedProgram, names: Sequence[str]) -> ExportedProgram:
    """The program with the named rewrites made, in one retracing. All other operations stay as they are."""
    with torch.no_grad():
        rewritten: ExportedProgram = program.run_decompositions(_formulas(names))
    return rewritten


def _formulas(names: Sequence[str]) -> Table:
    table: Table = {}
    for name in names:
        table |= catalog.load("rewrites", name).TABLE
    return table


OWN = (
    *("elementary", "scans", "scatters", "buckets", "smoothed", "ordered", "windows", "distances", "diagonal"),
    *("products", "bags", "repeats", "strides", "batch_statistics"),
)
"""Rewrites of what torch has no simpler form of, or one that no converter knows."""


def own() -> Table:
    """The formulas of these."""
    return _formulas(OWN)


def simpler(program: ExportedProgram, knows: Callable[[Node], bool]) -> ExportedProgram:
    """The program with what a converter does not know in simpler operations, by our formulas or else torch's.

    Nothing else is taken apart: what a converter does know, it knows better whole. Where one turns into what is not
    known either, the program stays as it is, so that a refusal names what the model calls.
    """
    formulas: Table = {
        **decomposition_table,
        **default_decompositions().materialize(),
        **_formulas(("alias",)),
        **own(),
    }
    made, tried = program, set[OpOverload]()
    while lacking := (unknown(made, knows) & formulas.keys()) - tried:
        tried |= lacking
        table: Table = {operation: formulas[operation] for operation in lacking}
        try:
            with torch.no_grad():
                made = made.run_decompositions(table)
        except Exception:  # whatever torch raises for a formula that does not fit, as of sizes known at run time alone
            return program
    return program if unknown(made, knows) - unknown(program, knows) else made


def unknown(program: ExportedProgram, knows: Callable[[Node], bool]) -> set[OpOverload]:
    """Operations of torch in it that a converter does not know; others (quantisers, checks) have no formulas."""
    return {
        node.target
        for node in program.graph.nodes
        if isinstance(node.target, OpOverload)
        and node.target.namespace in ("aten", "prims")
        and node.target._schema.returns
        and not knows(node)
    }
