"""Canonical forms: of several ways to say a thing, the one that every target, quantiser and audit knows.

Made once, at capture. A form is a file with `formula(node, constants)`: the function to be called in the place of an
operation, with the same arguments, or None where the operation stays. `_unused` then drops what no output needs,
`_fold` computes what the weights alone decide, and `_outputs` gives plain tensors in a row.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from torch.fx import GraphModule, Node

from edgepass.exporters._canonical._constants import Constants

Formula = Callable[..., Any]
FORMS = (
    "choice",
    "copying",
    "nothing",
    "shapes",
    "padding",
    "batch_norm",
    "transposed",
    "products",
    "factors",
    "filled",
    "hidden_rows",
    "one_step",
    "prelu",
    "bilinear",
    "tapers",
)
"""The first that fits is taken: a product with a weight is a linear layer before its factors are products."""


def restate(module: GraphModule) -> bool:
    """Put the formulas into the graph of `module`, to be captured anew; whether there was any to put."""
    forms = [import_module(f"{__name__}.{name}") for name in FORMS]
    changed = False
    for inner in module.modules():
        if not isinstance(inner, GraphModule):
            continue
        constants = Constants(inner)
        for node in inner.graph.nodes:
            if node.op == "call_function" and (found := _first(forms, node, constants)):
                node.target, changed = found, True
        inner.recompile()
    return changed


def _first(forms: list[Any], node: Node, constants: Constants) -> Formula | None:
    return next((found for form in forms if (found := form.formula(node, constants))), None)
