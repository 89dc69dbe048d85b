"""Outputs as a plain row of tensors, none of them an input or a constant.

    before   {"values": a, "rest": (b, None, x)}            after   (a, b, copy of x)

No file holds names of fields, None or numbers among its outputs, and a converter may rename an input that is returned.
"""

from collections.abc import Iterator

import torch
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree


def plain(module: GraphModule) -> tuple[bool, list[str]]:
    """Make them so in the graph of `module`; whether anything had to change, and a note for each that is left out."""
    output = module.graph.output_node()
    leaves: list[object] = list(output.args[0])  # type: ignore[arg-type]  # torch.export's graphs return a tuple
    info = module.graph._codegen.pytree_info  # type: ignore[attr-defined]  # torch.export's codegen has it
    kept: list[Node] = []
    notes: list[str] = []
    changed = not _is_flat(info.out_spec)
    for number, leaf in enumerate(leaves):
        if not isinstance(leaf, Node) or not isinstance(leaf.meta.get("val"), torch.Tensor):
            notes.append(f"output {number} of the model is {leaf}, no tensor; it is left out of the files")
            continue
        if leaf.op in ("placeholder", "get_attr"):
            with module.graph.inserting_before(output):
                leaf = module.graph.call_function(torch.ops.aten.clone.default, (leaf,))
            changed = True
        kept.append(leaf)
    if notes or changed:
        output.args = (tuple(kept),)
        spec = pytree.tree_structure(tuple(0 for _ in kept))
        module.graph._codegen.pytree_info = info._replace(out_spec=spec)  # type: ignore[attr-defined]
        module.recompile()
    return bool(notes) or changed, notes


def _is_flat(spec: pytree.TreeSpec) -> bool:
    return spec.is_leaf() or (spec.type in (tuple, list) and all(child.is_leaf() for child in _children(spec)))


def _children(spec: pytree.TreeSpec) -> Iterator[pytree.TreeSpec]:
    return iter(spec.children())
