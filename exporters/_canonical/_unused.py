"""Nothing but what outputs are made of.

    before   x ─ linear ─┬─ y               after   x ─ linear ─ y
                         └─ linear ─ tanh

Every converter leaves out what no output needs: the pooler of an encoder whose hidden states are asked for, what the
last block of N-BEATS leaves for a next one. In the captured graph its weights would take part, and be absent from every
file; its operations would count among those of the model.
"""

import torch
from torch.fx import GraphModule, Node

CHECKS = {torch.ops.aten._assert_tensor_metadata.default}
"""What torch.export writes beside a cast: of a value that nothing else needs, no reason to keep it."""


def drop(module: GraphModule) -> bool:
    """Take the rest out of the graph of `module`; whether there was any operation."""
    needed: set[Node] = set()
    todo = [node for node in module.graph.nodes if node.is_impure() and node.target not in CHECKS]
    while todo:
        node = todo.pop()
        if node not in needed:
            needed.add(node)
            todo.extend(node.all_input_nodes)
    checks = {node for node in module.graph.nodes if node.target in CHECKS and needed.issuperset(node.all_input_nodes)}
    unused = [node for node in reversed(module.graph.nodes) if node not in needed | checks]
    for node in unused:
        module.graph.erase_node(node)
    module.recompile()
    return any(node.op == "call_function" for node in unused)
