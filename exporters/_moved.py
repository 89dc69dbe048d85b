"""Nothing rounded again that is only moved.

    before   dequantise ─ permute ─ quantise ─ dequantise ─ y        after   dequantise ─ permute ─ y

The quantiser keeps int8 through whatever moves it, on the same steps: for runtimes that move bytes. coremltools only
takes moves in six dimensions, as windows of pictures are made, where nothing stands between them.
"""

from typing import Any

import torch
from torch.fx import GraphModule, Node

ATEN = torch.ops.aten
MOVES = frozenset({
    ATEN.permute.default, ATEN.transpose.int, ATEN.squeeze.dim, ATEN.view.default, ATEN.reshape.default,
    ATEN.slice.Tensor, ATEN.flatten.using_ints,
})  # fmt: skip
"""What torchao carries int8 through that gives some of the numbers that it reads, in another order."""


def moved(module: GraphModule) -> GraphModule:
    """`module`, changed in place."""
    ops = torch.ops.quantized_decomposed
    rounds, back = ops.quantize_per_tensor.default, ops.dequantize_per_tensor.default
    for rounded in module.graph.find_nodes(op="call_function", target=rounds):
        source: Any = rounded.args[0]
        came: Any = _came_from(source)
        if source is came or came.target is not back or came.args[1:] != rounded.args[1:]:
            continue
        for user in list(rounded.users):
            if user.target is back and user.args[1:] == rounded.args[1:]:
                user.replace_all_uses_with(source)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _came_from(node: Node) -> Any:
    while node.target in MOVES:
        node = node.all_input_nodes[0]
    return node
