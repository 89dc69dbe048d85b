"""A division that rounds down, by its remainder.

    before   x, y ─ floor_divide ─ z         after   x ─ (− remainder(x, y)) ─ (/ y) ─ round ─ z

litert-torch 0.10 refuses it of floating numbers ("failed to legalize operation 'mhlo.round_nearest_afz'").
"""

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE, Table

aten = torch.ops.aten


def floor_divide(x: Tensor, y: Tensor | float) -> Tensor:
    """x / y rounded down, as torch.floor_divide: what is left once the remainder is taken away."""
    if not x.is_floating_point() or (isinstance(y, Tensor) and not y.is_floating_point()):
        return LEFT_ALONE
    return torch.round((x - torch.remainder(x, y)) / y)


def divide(x: Tensor, y: Tensor | float, *, rounding_mode: str | None) -> Tensor:
    """x / y, rounded down or not at all, as torch.div."""
    if rounding_mode is None:
        return x / y
    return floor_divide(x, y) if rounding_mode == "floor" else LEFT_ALONE


TABLE: Table = {
    aten.floor_divide.default: floor_divide,
    aten.floor_divide.Scalar: floor_divide,
    aten.div.Tensor_mode: divide,
    aten.div.Scalar_mode: divide,
}
