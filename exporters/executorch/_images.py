"""Convolutions along one axis as those of one image, for a delegate that knows no other.

    before   x ─ conv1d ─ [relu] ─ quantise ─ dequantise ─ y
    after    x ─ lay out ─ quantise ─ dequantise ─ conv2d ─ [relu] ─ quantise ─ dequantise ─ lay back ─ y

Vulkan's int8 convolutions are of images only, its pattern for them fails on any other (executorch 1.5.1,
patterns/quantized_convolution.py), and whatever their format they take one image at a time. Where a convolution runs
along one axis, the batch is laid along the other. Int8 numbers are dequantised, laid out and quantised in the same
steps again, which changes none of them.

Shapes: B batch, C channels, N places along the axis.
"""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import torch
from torch.fx import GraphModule, Node

aten = torch.ops.aten
QUANTIZE = "quantized_decomposed.quantize_per_tensor.default"  # no operation until a quantiser is imported
DEQUANTIZE = "quantized_decomposed.dequantize_per_tensor.default"
FUSED = ("aten.relu.default", QUANTIZE, DEQUANTIZE)
"""What may follow a convolution, in this order, and be one operation with it."""


def as_images(module: GraphModule, *, sequences: bool) -> GraphModule:
    """`module`, changed in place: [B, C, N, 1] as [1, C, N, B], and with `sequences` [B, C, N] as [1, C, B, N]."""
    for conv in list(module.graph.nodes):
        if conv.target == aten.conv1d.default and sequences:
            _replace(module, conv, unused=2)
        elif conv.target == aten.conv2d.default and conv.meta["val"].shape[0] != 1:
            unused = next((axis for axis in (2, 3) if _is_unused(module, conv, axis)), None)
            if unused is not None:
                _replace(module, conv, unused)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _is_unused(module: GraphModule, conv: Node, axis: int) -> bool:
    """Whether a convolution of images of one row, or one column, leaves this axis alone."""
    stride, padding, _, _ = _settings(conv)
    kernel = _constant(module, conv.all_input_nodes[1]).shape[axis]
    size: int = conv.meta["val"].shape[axis]
    return (kernel, size, stride[axis - 2], padding[axis - 2]) == (1, 1, 1, 0)


def _settings(conv: Node) -> Any:
    """Stride, padding, dilation and groups."""
    axes = conv.meta["val"].ndim - 2
    defaults = ([1] * axes, [0] * axes, [1] * axes, 1)
    return (*conv.args[3:], *defaults[max(0, len(conv.args) - 3) :])


def _replace(module: GraphModule, conv: Node, unused: int) -> None:
    graph = module.graph
    along = conv.meta["val"].ndim == 3
    stride, padding, dilation, groups = _settings(conv)
    spans = ([1, *stride], [0, *padding], [1, *dilation]) if along else (stride, padding, dilation)
    bias = conv.args[2] if len(conv.args) > 2 else None
    swap = [unused if d == 0 else 0 if d == unused else d for d in range(4)]
    with graph.inserting_before(conv):
        x, weight = conv.all_input_nodes[:2]
        image = _quantized_as(x, _laid_out(graph, x, swap, along=along))
        wide = graph.call_function(
            aten.conv2d.default, (image, _weight(module, weight) if along else weight, bias, *spans, groups)
        )
    last = conv
    for target in FUSED:
        users = list(last.users)
        if len(users) == 1 and str(users[0].target) == target:
            last = users[0]
            with graph.inserting_before(last):
                wide = graph.create_node("call_function", last.target, (wide, *last.args[1:]), last.kwargs)
    with graph.inserting_before(last):
        back = graph.call_function(aten.permute.default, (wide, swap))
        last.replace_all_uses_with(graph.call_function(aten.squeeze.dim, (back, unused)) if along else back)


def _laid_out(graph: torch.fx.Graph, x: Node, swap: Sequence[int], *, along: bool) -> Node:
    wide = graph.call_function(aten.unsqueeze.default, (x, 2)) if along else x
    return graph.call_function(aten.permute.default, (wide, swap))


def _quantized_as(x: Node, y: Node) -> Node:
    """y, quantised as x is."""
    if str(x.target) != DEQUANTIZE:
        return y
    y = y.graph.call_function(torch.ops.quantized_decomposed.quantize_per_tensor.default, (y, *x.args[1:]))
    return y.graph.create_node("call_function", x.target, (y, *x.args[1:]))


def _weight(module: GraphModule, weight: Node) -> Node:
    """The constant that a weight is, or is dequantised from, kept with a height of one."""
    if weight.op != "get_attr":
        held = _weight(module, weight.all_input_nodes[0])
        return module.graph.create_node("call_function", weight.target, (held, *weight.args[1:]), weight.kwargs)
    name = f"_image_of_{weight.name}"
    module.register_buffer(name, _constant(module, weight).detach().unsqueeze(2))
    return module.graph.get_attr(name)


def _constant(module: GraphModule, weight: Node) -> torch.Tensor:
    while weight.op != "get_attr":
        weight = weight.all_input_nodes[0]
    found: torch.Tensor = attrgetter(str(weight.target))(module)
    return found
