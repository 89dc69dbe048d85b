"""A transposed convolution that pads nothing, and what it pads as a cut.

    before   x ─ conv_transpose(padding p, output_padding n) ─ y
    after    x ─ conv_transpose ─ slice(p : p - n from the end) ─ y
             x ─ conv_transpose ─ slice(p :) ─ pad(n - p) ─ (+ bias) ─ y       where n is more than p

litert-torch 0.10 refuses one over two dimensions with any padding but a few ("failed to legalize operation
'mhlo.convolution'"), and gives zeros where output_padding adds more than bias. What it has no
form for is stuffed: groups, steps and volumes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.nn import functional

from edgepass.rewrites import LEFT_ALONE, Table, each, stuffed

ATEN = torch.ops.aten
OPERATIONS = (ATEN.conv_transpose1d.default, ATEN.conv_transpose2d.input, ATEN.conv_transpose3d.input)


def unpadded(transposed: OpOverload) -> Callable[..., Any]:
    """The formula of one of the operations."""

    def formula(
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Sequence[int] = (1,),
        padding: Sequence[int] = (0,),
        output_padding: Sequence[int] = (0,),
        groups: int = 1,
        dilation: Sequence[int] = (1,),
    ) -> Any:
        if not any(padding) and not any(output_padding):
            return LEFT_ALONE
        dims = weight.dim() - 2
        given = (stride, padding, output_padding, dilation)
        strides, cuts, mores, steps = (each(n, dims) for n in given)
        beyond = [max(more - cut, 0) for cut, more in zip(cuts, mores, strict=True)]
        y = transposed(x, weight, None if any(beyond) else bias, strides, [0] * dims, [0] * dims, groups, steps)
        for dim, (cut, more) in enumerate(zip(cuts, mores, strict=True), start=-dims):
            y = y.narrow(dim, cut, y.shape[dim] - cut - max(cut - more, 0))
        if any(beyond):
            y = functional.pad(y, [n for size in reversed(beyond) for n in (0, size)])
            y = y if bias is None else y + bias.reshape(-1, *[1] * dims)
        return y

    return formula


def _unpadded_or_stuffed(transposed: OpOverload) -> Callable[..., Any]:
    def formula(*args: Any) -> Any:
        made = stuffed.TABLE[transposed](*args)
        return unpadded(transposed)(*args) if made is LEFT_ALONE else made

    return formula


TABLE: Table = {operation: _unpadded_or_stuffed(operation) for operation in OPERATIONS}
