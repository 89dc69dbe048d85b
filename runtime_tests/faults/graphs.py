"""In the graph that is converted: the float32 file of the target is as wrong as the others."""

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import GraphModule, Node

from runtime_tests.faults.fault import ENDS, INT8, Fault, lister
from runtime_tests.faults.models import BATCHES, STEPS

FAULTS: list[Fault] = []
VARYING = ("executorch", "coreml", "onnx")
"""Targets whose files may take batches of any size."""
fault = lister(FAULTS)


def calls(graph: GraphModule, name: str) -> list[Node]:
    """Nodes whose operation is called so."""
    found = [n for n in graph.graph.nodes if n.op == "call_function" and name in str(n.target).split(".")]
    assert found, f"no {name} in {[str(n.target) for n in graph.graph.nodes]}"
    return found


def outputs(graph: GraphModule) -> tuple[Node, list[Node]]:
    """The output node, and what it gives."""
    (end,) = (n for n in graph.graph.nodes if n.op == "output")
    return end, list(end.args[0])


def give(graph: GraphModule, change: Callable[..., Any], number: int = 0) -> None:
    """Put a function of tensors behind an output."""
    end, given = outputs(graph)
    with graph.graph.inserting_before(end):
        given[number] = change(graph.graph, given[number])
    end.args = (tuple(given),)


@fault("graph")
def outputs_swapped(graph: GraphModule) -> None:
    """The two outputs, which are of one shape, change places."""
    end, given = outputs(graph)
    end.args = (tuple(reversed(given)),)


@fault("graph")
def inputs_swapped(graph: GraphModule) -> None:
    """The two inputs, which are of one shape, change places."""
    x, y = (n for n in graph.graph.nodes if n.op == "placeholder")
    users = list(x.users), list(y.users)
    for node in users[0]:
        node.replace_input_with(x, y)
    for node in users[1]:
        node.replace_input_with(y, x)


@fault("graph")
def factor_dropped(graph: GraphModule) -> None:
    """The factor 0.7 of what is subtracted is left out, as coremltools leaves out alpha."""
    (node,) = (n for n in calls(graph, "mul") if n.args[1] == 0.7)
    node.replace_all_uses_with(node.args[0])


@fault("graph")
def operands_swapped(graph: GraphModule) -> None:
    """a - b is b - a."""
    (node,) = calls(graph, "sub")
    node.args = tuple(reversed(node.args))


@fault("graph")
def pad_on_both_sides(graph: GraphModule) -> None:
    """A pad of (2, 0) is one of (1, 1)."""
    (node,) = (
        calls(graph, "pad")
        if any("aten.pad." in str(n.target) for n in graph.graph.nodes)
        else calls(graph, "constant_pad_nd")
    )
    node.args = (node.args[0], [1, 1], *node.args[2:])


@fault("graph")
def relu_dropped(graph: GraphModule) -> None:
    """The last ReLU is not applied."""
    node = calls(graph, "relu")[-1]
    node.replace_all_uses_with(node.args[0])


@fault("graph")
def bias_dropped(graph: GraphModule) -> None:
    """The convolution has no bias."""
    (node,) = calls(graph, "conv1d")
    node.args = (*node.args[:2], None, *node.args[3:])


@fault("graph")
def wrong_epsilon(graph: GraphModule) -> None:
    """The norm's epsilon is 1e-2 where it is 1e-5."""
    (node,) = calls(graph, "layer_norm")
    node.args = (*node.args[:4], 1e-2)


@fault("graph")
def softmax_over_another_axis(graph: GraphModule) -> None:
    """Over steps, which are as many as the features."""
    (node,) = calls(graph, "softmax")
    node.args = (node.args[0], 1, *node.args[2:])


@fault("graph")
def steps_late_by_one(graph: GraphModule) -> None:
    """Every step of an output is that of the step before."""
    aten = torch.ops.aten

    def late(g: Any, y: Node) -> Node:
        parts = [g.call_function(aten.slice.Tensor, (y, 1, *span)) for span in ((STEPS - 1, STEPS), (0, STEPS - 1))]
        return g.call_function(aten.cat.default, (parts, 1))

    give(graph, late)


@fault("graph")
def output_transposed(graph: GraphModule) -> None:
    """An output [B, 16, 6] comes as [B, 6, 16], of equal size."""
    give(graph, lambda g, y: g.call_function(torch.ops.aten.permute.default, (y, [0, 2, 1])))


@fault("graph")
def output_in_another_order(graph: GraphModule) -> None:
    """The values of [B, 6, 16] laid out as [B, 16, 6]."""

    def laid(g: Any, y: Node) -> Node:
        turned = g.call_function(torch.ops.aten.permute.default, (y, [0, 2, 1]))
        dense = g.call_function(torch.ops.aten.clone.default, (turned,), {"memory_format": torch.contiguous_format})
        return g.call_function(torch.ops.aten.view.default, (dense, [1, STEPS, 6]))

    give(graph, laid)


@fault("graph")
def output_of_another_type(graph: GraphModule) -> None:
    """An output of float32 comes as int32."""
    give(graph, lambda g, y: g.call_function(torch.ops.aten.to.dtype, (y, torch.int32)))


@fault("graph")
def output_constant(graph: GraphModule) -> None:
    """An output is 0.1 whatever comes in."""

    def constant(g: Any, y: Node) -> Node:
        zero = g.call_function(torch.ops.aten.mul.Tensor, (y, 0.0))
        return g.call_function(torch.ops.aten.add.Tensor, (zero, 0.1))

    give(graph, constant)


@fault("graph")
def one_column_constant(graph: GraphModule) -> None:
    """One of the six columns of an output is zero."""
    aten = torch.ops.aten

    def dead(g: Any, y: Node) -> Node:
        kept = g.call_function(aten.slice.Tensor, (y, 2, 0, 5))
        last = g.call_function(aten.mul.Tensor, (g.call_function(aten.slice.Tensor, (y, 2, 5, 6)), 0.0))
        return g.call_function(aten.cat.default, ([kept, last], 2))

    give(graph, dead)


@fault("graph", model="indices", recipes=("fp32",))
def index_off_by_one(graph: GraphModule) -> None:
    """Every class is the one after it."""
    give(graph, lambda g, y: g.call_function(torch.ops.aten.add.Tensor, (y, 1)))


@fault("graph", recipes=INT8)
def wrong_zero_point(graph: GraphModule) -> None:
    """One activation is read as if its zero point were 8 off.

    By a sum behind it: converters that keep one zero point for a tensor take that of what writes it.
    """
    node = calls(graph, "dequantize_per_tensor")[-1]
    with graph.graph.inserting_after(node):
        moved = graph.graph.call_function(torch.ops.aten.add.Tensor, (node, -8 * node.args[1]))
    node.replace_all_uses_with(moved, lambda user: user is not moved)


@fault("graph", recipes=INT8)
def range_halved(graph: GraphModule) -> None:
    """One activation has half its range, and saturates."""
    node = calls(graph, "quantize_per_tensor")[-1]
    for each in (node, *node.users):
        each.args = (each.args[0], each.args[1] / 2, *each.args[2:])


@fault("graph", model="rows", targets=VARYING, recipes=ENDS)
def number_of_rows_burnt_in(graph: GraphModule) -> None:
    """A mean over the batch divides by the two rows of the samples, however many come."""
    (node,) = calls(graph, "mean")
    own, _ = BATCHES["rows"]
    with graph.graph.inserting_before(node):
        total = graph.graph.call_function(torch.ops.aten.sum.dim_IntList, (node.args[0], [0], True))
        node.replace_all_uses_with(graph.graph.call_function(torch.ops.aten.mul.Tensor, (total, 1 / own)))


@fault("graph", model="rows", targets=VARYING, recipes=ENDS)
def last_row_of_the_largest_batch_forgotten(graph: GraphModule) -> None:
    """It is zero, as by a kernel that takes rows in twos and fours and drops what is left over."""
    _, most = BATCHES["rows"]
    kept = torch.ones(most, 1, 1)
    kept[-1] = 0.0
    graph.register_buffer("kept_rows", kept)
    (x,) = (n for n in graph.graph.nodes if n.op == "placeholder")

    def forget(g: Any, y: Node) -> Node:
        rows = g.call_function(torch.ops.aten.sym_size.int, (x, 0))
        mask = g.call_function(torch.ops.aten.slice.Tensor, (g.get_attr("kept_rows"), 0, 0, rows))
        return g.call_function(torch.ops.aten.mul.Tensor, (y, mask))

    give(graph, forget)
