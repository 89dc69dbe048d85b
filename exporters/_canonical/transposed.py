"""A transposed convolution without strides, as the convolution that it is.

    before   x ─ conv_transpose(W, padding p) ─ y
    after    x ─ conv(W mirrored, outputs first, padding dilation (k - 1) - p) ─ y
             x ─ conv(…, padding n) ─ slice ─ y           where a side gets less than n: a large p, output_padding

litert-torch 0.10 leaves a transposed convolution in float32 beside int8 steps, and quantisers leave one that is in
groups. With strides it stays one: a convolution would multiply by zeros.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from edgepass.exporters._canonical._constants import Constants
from edgepass.rewrites import each
from edgepass.rewrites.stuffed import mirrored

ATEN = torch.ops.aten
PLAIN: dict[Any, Callable[..., Tensor]] = {
    ATEN.conv_transpose1d.default: ATEN.conv1d.default,
    ATEN.conv_transpose2d.input: ATEN.conv2d.default,
    ATEN.conv_transpose3d.input: ATEN.conv3d.default,
}


def formula(node: Node, constants: Constants) -> Callable[..., Tensor] | None:
    """The convolution, where its kernel is constant and there is nothing to step over."""
    plain = PLAIN.get(node.target)
    if plain is None or node.args[1] not in constants.nodes:
        return None
    x, weight = (argument.meta["val"] for argument in node.args[:2])  # type: ignore[union-attr]  # tensors are nodes
    stride: Any = node.args[3] if len(node.args) > 3 else node.kwargs.get("stride", 1)
    strides = each(stride, weight.dim() - 2)
    sizes = x.shape[-len(strides) :]
    still = all(step == 1 or size == 1 for step, size in zip(strides, sizes, strict=True))
    return _mirrored(plain) if still else None


def _mirrored(plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def convolution(
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Sequence[int] = (1,),
        padding: Sequence[int] = (0,),
        output_padding: Sequence[int] = (0,),
        groups: int = 1,
        dilation: Sequence[int] = (1,),
    ) -> Tensor:
        kernel = weight.shape[2:]
        cuts, more, steps = (each(n, len(kernel)) for n in (padding, output_padding, dilation))
        starts = [step * (size - 1) - cut for step, size, cut in zip(steps, kernel, cuts, strict=True)]
        ends = [start + n for start, n in zip(starts, more, strict=True)]
        both = [max(end, 0) for end in ends]
        y = plain(x, mirrored(weight, groups), bias, [1] * len(kernel), both, steps, groups)
        for dim, (n, start, end) in enumerate(zip(both, starts, ends, strict=True), start=2 - weight.dim()):
            y = y if start == end == n else y.narrow(dim, n - start, y.shape[dim] - 2 * n + start + end)
        return y

    return convolution
