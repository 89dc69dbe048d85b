"""What moves int8 numbers has them in one range.

    before   x ─ dequantise(s) ─ cat ─ quantise(t) ─ y
    after    x ─ dequantise(s) ─ quantise(t) ─ dequantise(t) ─ cat ─ quantise(t) ─ y

XNNPACK takes whatever is between a dequantise and a quantise for an operation on int8, and refuses a move from one
range to another as the file is loaded ("Failed to create cat2 node"). Rounding gives the same before a move and after.
"""

from collections.abc import Iterator

import torch
from torch.fx import GraphModule, Node

from edgepass.quantize.weights import MOVES

ATEN = torch.ops.aten
MOVED = MOVES | {ATEN.cat.default, ATEN.slice.Tensor, ATEN.select.int, ATEN.flip.default, ATEN.expand.default}


def settled(module: GraphModule) -> GraphModule:
    """`module`, changed in place, with moves between ranges behind the change of range."""
    ops = torch.ops.quantized_decomposed
    quantise, dequantise = ops.quantize_per_tensor.default, ops.dequantize_per_tensor.default
    for node in module.graph.find_nodes(op="call_function", target=quantise):
        read = list(_moved(node))
        if not any(source.target == dequantise for source, _ in read):
            continue
        for source, reader in read:
            if reader is node or (source.target == dequantise and source.args[1:] == node.args[1:]):
                continue
            with module.graph.inserting_before(reader):
                rounded = module.graph.call_function(quantise, (source, *node.args[1:]))
                back = module.graph.call_function(dequantise, (rounded, *node.args[1:]))
            rounded.meta, back.meta = dict(source.meta), dict(source.meta)
            reader.replace_input_with(source, back)
    module.recompile()
    return module


def _moved(reader: Node) -> Iterator[tuple[Node, Node]]:
    """What `reader` has got by moves alone, which nothing else reads, each with what reads it first."""
    for source in reader.all_input_nodes:
        if source.target in MOVED and len(source.users) == 1:
            yield from _moved(source)
        else:
            yield source, reader
