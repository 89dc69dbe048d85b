"""A transposed convolution without output_padding, and that as a pad.

    before   x ─ conv_transpose(output_padding n) ─ y        after   x ─ conv_transpose ─ slice ─ pad ─ (+ bias) ─ y

coremltools 9.0 refuses it of volumes, and leaves out what is more than the padding.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch._ops import OpOverload

from edgepass.rewrites import LEFT_ALONE, Table, transposed


def _without(operation: OpOverload) -> Callable[..., Any]:
    def formula(
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Sequence[int] = (1,),
        padding: Sequence[int] = (0,),
        output_padding: Sequence[int] = (0,),
        *rest: Any,
    ) -> Any:
        if not any(output_padding):
            return LEFT_ALONE
        return transposed.unpadded(operation)(x, weight, bias, stride, padding, output_padding, *rest)

    return formula


TABLE: Table = {operation: _without(operation) for operation in transposed.OPERATIONS}
