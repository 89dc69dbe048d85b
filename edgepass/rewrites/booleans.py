"""Bitwise operations on truth values as logical ones.

    before   a, b ─ __and__ ─ y              after   a, b ─ logical_and ─ y

`a & b` is one of three operations of torch. Core ML's converter knows none on anything but truth values, and two of
them not at all.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE


def _logical(operation: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Any], Tensor]:
    """`operation` on truth values; integers, which have more bits than one, are left as they are."""

    def formula(x: Tensor, y: Any) -> Tensor:
        other = y if isinstance(y, Tensor) else torch.full_like(x, bool(y))
        if not (x.dtype == other.dtype == torch.bool and isinstance(y, (bool, Tensor))):
            return LEFT_ALONE
        return operation(x, other)

    return formula


ATEN = torch.ops.aten
TABLE = {
    operation: _logical(formula)
    for formula, operations in (
        (torch.logical_and, (ATEN.__and__.Tensor, ATEN.__and__.Scalar, ATEN.bitwise_and.Tensor)),
        (torch.logical_or, (ATEN.__or__.Tensor, ATEN.__or__.Scalar, ATEN.bitwise_or.Tensor)),
        (torch.logical_xor, (ATEN.__xor__.Tensor, ATEN.__xor__.Scalar, ATEN.bitwise_xor.Tensor)),
    )
    for operation in operations
}
