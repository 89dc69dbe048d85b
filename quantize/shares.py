"""Shares of one in steps of which one has a whole number.

    before   softmax ─ quantise(0.00391) ─ y        after   softmax ─ quantise(1 / 255) ─ y

onnxruntime 1.31's int8 softmax multiplies by 1 / step without its fraction, 254 where a step is the least bit more than
1 / 255: shares of a quarter were a quarter of a step too little, each of them. A step grows by a part in 255 at most.
"""

from typing import Any

import numpy as np
import torch
from torch.fx import GraphModule, Node

from edgepass.quantize.weights import MOVES

ATEN = torch.ops.aten
SOFTMAX = frozenset({ATEN.softmax.int, ATEN._softmax.default})
FLOAT32 = 1e-3
"""Of a step: what an observed largest share of 1 may lack of it."""


def whole(module: GraphModule) -> GraphModule:
    """`module`, changed in place: whatever has the steps of a softmax has the new ones."""
    ops = torch.ops.quantized_decomposed
    rounded, back = ops.quantize_per_tensor.default, ops.dequantize_per_tensor.default
    found: dict[Any, float] = {}
    for node in module.graph.find_nodes(op="call_function", target=rounded):
        if _made(node).target in SOFTMAX:
            found[node.args[1:3]] = share(node.args[1])
    for node in module.graph.nodes if found else ():
        if node.target in (rounded, back) and (step := found.get(node.args[1:3])):
            node.update_arg(1, step)
    module.recompile()
    return module


def share(step: float) -> float:
    """The least step that is no less, but for float32's error, and of which 1 / step is whole in float32."""
    count = np.floor(np.float32(1 / step + FLOAT32))
    found = np.float32(1) / count
    while np.float32(1) / found < count:
        found = np.nextafter(found, np.float32(0))
    return float(found)


def _made(rounded: Node) -> Node:
    """What makes the numbers that are rounded, before they were moved."""
    (source,) = rounded.all_input_nodes
    while source.target in MOVES:
        source = source.all_input_nodes[0]
    return source
