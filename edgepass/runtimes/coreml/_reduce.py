"""Core ML operations that reduce, accumulate or order along axes. fp16 is summed in fp32."""

from collections.abc import Callable

import torch
from torch import Tensor

from edgepass.runtimes.coreml._node import HANDLERS, Build, Node, Run, handles, wide

Reduction = Callable[[Tensor, list[int], bool], Tensor]


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((a % x.dim() for a in axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return (x if x.is_floating_point() else x.double()).mean(axes, keep)


_REDUCTIONS: dict[str, Reduction] = {
    "reduce_l1_norm": lambda x, axes, keep: x.abs().sum(axes, keep),
    "reduce_l2_norm": lambda x, axes, keep: x.square().sum(axes, keep).sqrt(),
    "reduce_log_sum": lambda x, axes, keep: x.sum(axes, keep).log(),
    "reduce_log_sum_exp": lambda x, axes, keep: x.logsumexp(axes, keep),
    "reduce_max": lambda x, axes, keep: x.amax(axes, keep),
    "reduce_mean": _mean,
    "reduce_min": lambda x, axes, keep: x.amin(axes, keep),
    "reduce_prod": _product,
    "reduce_sum": lambda x, axes, keep: x.sum(axes, keep),
    "reduce_sum_square": lambda x, axes, keep: x.square().sum(axes, keep),
}


def _reduction(function: Reduction) -> Build:
    def build(node: Node) -> Run:
        axes, keep = node.ints("axes", list(range(node.ranks["x"]))), node.get("keep_dims", False)
        return lambda x: function(wide(x), axes, keep)

    return build


HANDLERS.update({kind: _reduction(f) for kind, f in _REDUCTIONS.items()})


@handles("reduce_argmax", "reduce_argmin")
def _arg(node: Node) -> Run:
    axis, keep = node.get("axis", -1), node.get("keep_dims", False)
    function = torch.argmax if node.kind == "reduce_argmax" else torch.argmin
    return lambda x: function(wide(x), axis, keep)


@handles("cumsum")
def _cumsum(node: Node) -> Run:
    axis, exclusive, reverse = node.get("axis", 0), node.get("exclusive", False), node.get("reverse", False)

    def run(x: Tensor) -> Tensor:
        x = wide(x)
        x = x.flip(axis) if reverse else x
        y = x.cumsum(axis)
        if exclusive:
            y = torch.cat([torch.zeros_like(y.narrow(axis, 0, 1)), y.narrow(axis, 0, y.shape[axis] - 1)], axis)
        return y.flip(axis) if reverse else y

    return run


@handles("argsort")
def _argsort(node: Node) -> Run:
    axis, ascending = node.get("axis", -1), node.get("ascending", False)
    return lambda x: torch.sort(x, stable=True, dim=axis, descending=not ascending).indices


@handles("topk")
def _topk(node: Node) -> Run:
    axis, ascending = node.get("axis", -1), node.get("ascending", False)
    both = node.outputs == 2

    def run(x: Tensor, k: Tensor | None) -> Tensor | tuple[Tensor, Tensor]:
        count = 1 if k is None else int(k)
        values, indices = torch.sort(x, stable=True, dim=axis, descending=not ascending)
        values, indices = values.narrow(axis, 0, count), indices.narrow(axis, 0, count)
        return (values, indices) if both else values

    return run


@handles("non_zero")
def _non_zero(node: Node) -> Run:
    return lambda x: torch.nonzero(x)
