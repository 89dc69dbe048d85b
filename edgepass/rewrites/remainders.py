"""What is left of a division that rounds towards zero, by the one that rounds down.

before   x, y ─ fmod ─ z                 after   |x|, |y| ─ remainder ─ (· sign x) ─ z
"""

import torch
from torch import Tensor


def fmod(x: Tensor, y: Tensor | float) -> Tensor:
    """Remainder of x / y with the sign of x, as torch.fmod."""
    return x.abs().remainder(y.abs() if isinstance(y, Tensor) else abs(y)) * x.sign()


def trunc(x: Tensor) -> Tensor:
    """The integer part of x, as torch.trunc."""
    return x.abs().floor() * x.sign() if x.is_floating_point() else x.clone()


TABLE = {torch.ops.aten.fmod.Scalar: fmod, torch.ops.aten.fmod.Tensor: fmod, torch.ops.aten.trunc.default: trunc}
