"""Numbers beside tensors as tensors of the same type.

    before   x ─ add(1) ─ y                  after   x ─ add([1.0]) ─ y

ExecuTorch 1.5.1 makes an int64 tensor of a 1, and a float32 one of a 1.0, with a cast behind it wherever x is of
another type; no delegate takes the cast, so each of them would cut the delegated graph in two. Beside a single int32
number its 1 is of the wider type, and gives int64.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE, Table, constant


def _with_tensor(operation: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """The formula of `operation` on a tensor and a number of its kind; anything else is left as it is."""

    def formula(x: Tensor, other: Tensor | float, alpha: float = 1) -> Tensor:
        if x.dtype == torch.int32 and not x.dim() and type(other) is int and alpha == 1:
            return operation(x, torch.full((), other, dtype=x.dtype))
        if isinstance(other, Tensor) or alpha != 1 or not x.is_floating_point():
            return LEFT_ALONE
        return operation(x, constant(float(other), x))

    return formula


TABLE: Table = {
    torch.ops.aten.add.Tensor: _with_tensor(lambda x, number: x + number),
    torch.ops.aten.sub.Tensor: _with_tensor(lambda x, number: x - number),
    torch.ops.aten.rsub.Scalar: _with_tensor(lambda x, number: number - x),
    torch.ops.aten.mul.Tensor: _with_tensor(lambda x, number: x * number),
    torch.ops.aten.div.Tensor: _with_tensor(lambda x, number: x / number),
}
