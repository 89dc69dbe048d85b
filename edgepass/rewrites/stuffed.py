"""A transposed convolution as a plain one of what has zeros between.

    before   x ─ conv_transpose(W, stride s) ─ y
    after    x ─ s - 1 zeros behind each ─ pad ─ conv(W mirrored) ─ y

No runtime of TFLite steps over more than it convolves, groups or volumes so, and ExecuTorch 1.5.1 has none of volumes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from edgepass.rewrites import LEFT_ALONE, Table, each

aten = torch.ops.aten


def _zeros_between(x: Tensor, dim: int, step: int) -> Tensor:
    """`x` with step - 1 zeros between each two along `dim`."""
    if step == 1 or x.shape[dim] == 1:
        return x
    before, size, after = x.shape[:dim].numel(), x.shape[dim], x.shape[dim + 1 :].numel()
    wide = functional.pad(x.reshape(before, size, 1, after), (0, 0, 0, step - 1))
    return wide.reshape(*x.shape[:dim], size * step, *x.shape[dim + 1 :]).narrow(dim, 0, (size - 1) * step + 1)


def mirrored(weight: Tensor, groups: int) -> Tensor:
    """The kernel [inputs, outputs / groups, ...] of a transposed convolution as that of the plain one."""
    inputs, outputs, *kernel = weight.shape
    by_group = weight.reshape(groups, inputs // groups, outputs, *kernel).transpose(1, 2)
    return by_group.reshape(groups * outputs, inputs // groups, *kernel).flip(list(range(2, weight.dim())))


def _plain(convolution: Callable[..., Tensor], dims: int) -> Callable[..., Any]:
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
        strides, cuts, mores, steps = (each(n, dims) for n in (stride, padding, output_padding, dilation))
        varies = any(isinstance(n, torch.SymInt) for n in x.shape)
        if varies or (dims < 3 and groups == 1 and max(steps) == 1):
            return LEFT_ALONE
        batched = x if x.dim() == dims + 2 else x.unsqueeze(0)
        for dim, step in enumerate(strides, start=2):
            batched = _zeros_between(batched, dim, step)
        ends = [step * (size - 1) - cut for step, size, cut in zip(steps, weight.shape[2:], cuts, strict=True)]
        sides = [n for end, more in zip(reversed(ends), reversed(mores), strict=True) for n in (end, end + more)]
        kernel = mirrored(weight, groups)
        y = convolution(functional.pad(batched, sides), kernel, bias, [1] * dims, [0] * dims, steps, groups)
        return y if x.dim() == dims + 2 else y.squeeze(0)

    return formula


TABLE: Table = {
    aten.conv_transpose1d.default: _plain(aten.conv1d.default, 1),
    aten.conv_transpose2d.input: _plain(aten.conv2d.default, 2),
    aten.conv_transpose3d.input: _plain(aten.conv3d.default, 3),
}
