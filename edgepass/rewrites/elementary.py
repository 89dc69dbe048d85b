"""Functions of numbers that converters do not know, by those that they do.

    before   x ─ exp2 ─ y                    after   x ─ (· ln 2) ─ exp ─ y              and its kin, see below

Where torch has a formula of its own, that is taken (`simpler`); of these it has none, or one of unknown operations.
"""

import math

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE, Table, constant

aten = torch.ops.aten
LARGE = 1e9
"""Beside whose square 1 is nothing."""


def exp2(x: Tensor) -> Tensor:
    """2 to the power of x, as torch.exp2."""
    return torch.exp(_floating(x) * constant(math.log(2), x))


def ldexp(x: Tensor, y: Tensor) -> Tensor:
    """x · 2^y, as torch.ldexp."""
    return x * exp2(y)


def logaddexp2(x: Tensor, y: Tensor) -> Tensor:
    """log2(2^x + 2^y), as torch.logaddexp2."""
    above, below = torch.maximum(x, y), torch.minimum(x, y)
    return above + torch.log1p(exp2(below - above)) * constant(1 / math.log(2), above)


def signbit(x: Tensor) -> Tensor:
    """Whether x is below zero, or the zero below it, as torch.signbit."""
    return (x < 0) | ((x == 0) & (constant(1.0, x) / x < 0)) if x.is_floating_point() else x < 0


def copysign(x: Tensor, y: Tensor | float) -> Tensor:
    """|x| with the sign of y, as torch.copysign."""
    size = _floating(x).abs()
    if not isinstance(y, Tensor):
        return -size if math.copysign(1, y) < 0 else size
    return torch.where(signbit(y), -size, size)


def fmax(x: Tensor, y: Tensor) -> Tensor:
    """The larger, or the one that is a number, as torch.fmax."""
    return torch.where(x != x, y, torch.where(y != y, x, torch.maximum(x, y)))


def fmin(x: Tensor, y: Tensor) -> Tensor:
    """The smaller, or the one that is a number, as torch.fmin."""
    return torch.where(x != x, y, torch.where(y != y, x, torch.minimum(x, y)))


def hypot(x: Tensor, y: Tensor) -> Tensor:
    """The root of x² + y², of numbers whose squares are too large too, as torch.hypot."""
    long, short = torch.maximum(x.abs(), y.abs()), torch.minimum(x.abs(), y.abs())
    part = short / torch.where(long == 0, constant(1.0, long), long)
    return long * torch.sqrt(part * part + constant(1.0, part))


def safe_softmax(x: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """A softmax in which a row of minus infinity is zero, as torch's own attention has it."""
    y = x if dtype is None else x.to(dtype)
    high = y.amax(dim, keepdim=True).clamp(min=torch.finfo(y.dtype).min)
    exponentials = torch.exp(y - high)
    return exponentials / exponentials.sum(dim, keepdim=True).clamp(min=torch.finfo(y.dtype).tiny)


def angle(x: Tensor) -> Tensor:
    """π of what is negative and else zero, as torch.angle of real numbers."""
    y = _floating(x)
    return torch.where(y < 0, constant(math.pi, y), torch.where(y != y, y, constant(0.0, y)))


def logical_xor(x: Tensor, y: Tensor) -> Tensor:
    """Whether one of both is not zero, as torch.logical_xor."""
    return (x != 0) != (y != 0)


def rounded(x: Tensor, *, decimals: int) -> Tensor:
    """To so many decimals, as torch.round."""
    factor = constant(10.0 ** abs(decimals), x)
    return torch.round(x * factor) / factor if decimals >= 0 else torch.round(x / factor) * factor


def acosh(x: Tensor) -> Tensor:
    """The number above 0 whose hyperbolic cosine is x, as torch.acosh."""
    y = _floating(x)
    above = y - constant(1.0, y)
    return torch.log1p(above + torch.sqrt(above) * torch.sqrt(y + constant(1.0, y)))


def asinh(x: Tensor) -> Tensor:
    """The number whose hyperbolic sine is x, exact near zero too, as torch.asinh."""
    y = _floating(x).abs()
    small = y.clamp(max=LARGE)
    square = small * small
    size = torch.log1p(small + square / (constant(1.0, y) + torch.sqrt(square + constant(1.0, y))))
    size = torch.where(y > LARGE, torch.log(y) + constant(math.log(2), y), size)
    return torch.where(x < 0, -size, size)


def erfc(x: Tensor) -> Tensor:
    """1 - erf(x), as torch.erfc but for its digits below those of 1."""
    y = _floating(x)
    return constant(1.0, y) - torch.erf(y)


def isclose(x: Tensor, y: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Whether |x - y| <= atol + rtol · |y|, as torch.isclose."""
    near = torch.logical_and((x - y).abs() <= atol + (y * rtol).abs(), y.abs() < math.inf)
    near = torch.logical_or(near, x == y)
    return torch.logical_or(near, torch.logical_and(x != x, y != y)) if equal_nan else near


def rrelu(
    x: Tensor,
    noise: Tensor | None = None,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    **of: None,
) -> Tensor:
    """A rectifier with the mean of the slopes that training draws, as torch.nn.functional.rrelu in evaluation."""
    return LEFT_ALONE if training else torch.nn.functional.leaky_relu(x, (lower + upper) / 2)


def _floating(x: Tensor) -> Tensor:
    return x if x.is_floating_point() else x.float()


TABLE: Table = {
    aten.exp2.default: exp2,
    aten.ldexp.Tensor: ldexp,
    aten.logaddexp2.default: logaddexp2,
    aten.signbit.default: signbit,
    aten.copysign.Tensor: copysign,
    aten.copysign.Scalar: copysign,
    aten.fmax.default: fmax,
    aten.fmin.default: fmin,
    aten.hypot.default: hypot,
    aten._safe_softmax.default: safe_softmax,
    aten.angle.default: angle,
    aten.logical_xor.default: logical_xor,
    aten.acosh.default: acosh,
    aten.asinh.default: asinh,
    aten.erfc.default: erfc,
    aten.isclose.default: isclose,
    aten.round.decimals: rounded,
    aten.rrelu.default: rrelu,
}
