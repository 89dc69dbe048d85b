"""Powers of whole numbers that are fractions, in float32 from the start.

    before   n(int64) ─ pow(0.9, n) ─ y      after   n ─ to(float32) ─ pow(0.9, n) ─ y

So torch computes them too. litert-torch 0.10 makes such a power of float64, which no kernel of LiteRT takes.
"""

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE, Table


def _of_a_number(base: float, exponent: Tensor) -> Tensor:
    """base ** exponent."""
    if not isinstance(base, float) or exponent.is_floating_point():
        return LEFT_ALONE
    return torch.pow(torch.full((), base), exponent.to(torch.float32))


def _to_a_number(base: Tensor, exponent: float) -> Tensor:
    """base ** exponent."""
    if not isinstance(exponent, float) or base.is_floating_point():
        return LEFT_ALONE
    return torch.pow(base.to(torch.float32), exponent)


TABLE: Table = {
    torch.ops.aten.pow.Scalar: _of_a_number,
    torch.ops.aten.pow.Tensor_Scalar: _to_a_number,
}
