"""Fourier transforms as products with tables of cosines and sines; a complex tensor is a pair of real ones.

    before   x [n] ─ rfft ─ y [n/2 + 1] complex      after   x ─ matmul(cos) ─ real,    x ─ matmul(-sin) ─ imaginary
    before   x ─ stft ─ y                            after   x ─ unfold ─ matmul(window · cos) ─ real   and so on

A length above LONGEST is taken as the product of two (Cooley, Tukey 1965) where it is one.
"""

from collections.abc import Callable
from math import ceil, isqrt, sqrt
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Array = np.ndarray[Any, np.dtype[Any]]
LONGEST = 512
"""Of a table's sides: the two of a transform are two megabytes then."""


class Pair(NamedTuple):
    """A complex tensor: its real and its imaginary part, of one shape."""

    real: Tensor
    imaginary: Tensor

    def each(self, function: Callable[[Tensor], Tensor]) -> "Pair":
        """With `function` of each part."""
        return Pair(function(self.real), function(self.imaginary))


def pair(x: Tensor | Pair) -> Pair:
    """`x`, with an imaginary part of zeros if it has none."""
    return x if isinstance(x, Pair) else Pair(x, torch.zeros_like(x))


def transform(x: Tensor | Pair, length: int, dim: int, norm: str | None, *, inverse: bool = False) -> Pair:
    """As torch.fft.fft, or ifft."""
    parts = x if isinstance(x, Pair) else (x, None)
    real, imaginary = (None if part is None else _last(_fitted(part, length, dim), dim) for part in parts)
    assert real is not None
    y = _sums(real, imaginary, length, inverse, _scale(length, norm, inverse))
    return y.each(lambda part: _last(part, dim))


def half(x: Tensor, length: int, dim: int, norm: str | None) -> Pair:
    """As torch.fft.rfft: the first length // 2 + 1 of the transform."""
    kept = length // 2 + 1
    if length > LONGEST:
        return transform(x, length, dim, norm).each(lambda y: y.narrow(dim, 0, kept))
    row = _last(_fitted(x, length, dim), dim)
    y = Pair(*(row @ table for table in _tables(length, kept, scale=_scale(length, norm, inverse=False))))
    return y.each(lambda part: _last(part, dim))


def whole(x: Tensor | Pair, length: int, dim: int, norm: str | None) -> Tensor:
    """As torch.fft.irfft: the real numbers that `half` was made of."""
    kept = length // 2 + 1
    real, imaginary = pair(x).each(lambda part: _last(_fitted(part, kept, dim), dim))
    scale = _scale(length, norm, inverse=True)
    if length > LONGEST:
        mirrored = [part[..., 1 : (length + 1) // 2].flip(-1) for part in (real, imaginary)]
        full = torch.cat([real, mirrored[0]], -1), torch.cat([imaginary, -mirrored[1]], -1)
        return _last(_sums(*full, length, True, scale).real, dim)
    # Each of the half stands for two, but the first, and of an even length the last.
    stands = np.array([[scale * (2 - (2 * k % length == 0))] for k in range(kept)])
    cosines, sines = _tables(kept, length, scale=stands, of=length)
    return _last(real @ cosines + imaginary @ sines, dim)


def frames(
    x: Tensor,
    length: int,
    hop: int | None = None,
    window_length: int | None = None,
    window: Tensor | None = None,
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> Pair:
    """As torch.stft of [..., T], which has padded what it centres: [..., length // 2 + 1, frames]."""
    kept = length if onesided is False else length // 2 + 1
    shape = _window(window, window_length or length, length)[:, None]
    rows = x.unfold(-1, length, hop or length // 4)
    tables = _tables(length, kept, scale=length**-0.5 if normalized else 1.0)
    return Pair(*(rows @ (table * shape) for table in tables)).each(lambda y: y.transpose(-1, -2))


def joined(
    x: Pair,
    length: int,
    hop: int | None = None,
    window_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    samples: int | None = None,
    return_complex: bool = False,
) -> Tensor:
    """As torch.istft: [..., length // 2 + 1, frames] -> [..., samples], the frames added where they lie."""
    step = hop or length // 4
    shape = _window(window, window_length or length, length)
    rows = x.each(lambda part: part.transpose(-1, -2))
    norm = "ortho" if normalized else None
    y = transform(rows, length, -1, norm, inverse=True).real if onesided is False else whole(rows, length, -1, norm)
    weight = (shape * shape).expand(y.shape[-2], length)
    sums, weights = (_overlapped(part, length, step) for part in (y * shape, weight))
    start = length // 2 if center else 0
    stop = sums.shape[-1] - start if samples is None else start + samples
    y = sums[..., start:stop] / weights[start:stop]
    return y if samples is None else _fitted(y, samples, -1)


def _overlapped(rows: Tensor, length: int, step: int) -> Tensor:
    """The sum of [..., frames, length], each `step` behind the last: [..., (frames - 1) · step + length]."""
    count, parts = rows.shape[-2], ceil(length / step)
    rows = functional.pad(rows, (0, parts * step - length))
    shifted = [
        functional.pad(rows[..., part * step : (part + 1) * step], (0, 0, part, parts - 1 - part))
        for part in range(parts)
    ]
    total = shifted[0]
    for each in shifted[1:]:
        total = total + each
    return total.flatten(-2)[..., : (count - 1) * step + length]


def _sums(real: Tensor, imaginary: Tensor | None, length: int, inverse: bool, scale: float) -> Pair:
    """The transform of rows, the last dimension, times `scale`."""
    if length > LONGEST and (factor := _factor(length)) > 1:
        return _in_two(real, imaginary, length, factor, inverse, scale)
    cosines, sines = _tables(length, length, scale=scale, inverse=inverse)
    if imaginary is None:
        return Pair(real @ cosines, real @ sines)
    return Pair(real @ cosines - imaginary @ sines, real @ sines + imaginary @ cosines)


def _in_two(real: Tensor, imaginary: Tensor | None, length: int, a: int, inverse: bool, scale: float) -> Pair:
    """Of t = b·t1 + t2 in the row comes k = k1 + a·k2 in the transform; t1, k1 < a and t2, k2 < b, a·b = `length`."""
    sizes = a, b = a, length // a
    columns = real.unflatten(-1, sizes).transpose(-1, -2)
    turning = None if imaginary is None else imaginary.unflatten(-1, sizes).transpose(-1, -2)
    first = _sums(columns, turning, a, inverse, scale).each(lambda y: y.transpose(-1, -2))  # [..., k1, t2]
    cosines, sines = _tables(a, b, of=length, inverse=inverse)
    y = Pair(first.real * cosines - first.imaginary * sines, first.real * sines + first.imaginary * cosines)
    return _sums(*y, b, inverse, 1.0).each(lambda y: y.transpose(-1, -2).flatten(-2))


def _factor(length: int) -> int:
    """The smaller of the two numbers nearest to each other of which `length` is the product."""
    return next(n for n in range(isqrt(length), 0, -1) if length % n == 0)


def _tables(
    rows: int, columns: int, *, of: int | None = None, inverse: bool = False, scale: float | Array = 1.0
) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of exp(-2πi·t·k / of), [t, k], or +2πi of the inverse, times `scale`."""
    length = max(rows, columns) if of is None else of
    turns = 2 * np.pi * (np.outer(np.arange(rows), np.arange(columns)) % length) / length
    parts = np.cos(turns) * scale, np.sin(turns) * scale * (1 if inverse else -1)
    real, imaginary = (torch.from_numpy(part.astype(np.float32)) for part in parts)
    return real, imaginary


def _scale(length: int, norm: str | None, inverse: bool) -> float:
    if norm == "ortho":
        return 1 / sqrt(length)
    return 1 / length if inverse == (norm in (None, "backward")) else 1.0


def _window(window: Tensor | None, given: int, length: int) -> Tensor:
    """[length]: the window, or ones, in the middle of zeros."""
    window = torch.ones(given) if window is None else window
    left = (length - given) // 2
    return functional.pad(window, (left, length - given - left)) if given < length else window


def _fitted(x: Tensor, length: int, dim: int) -> Tensor:
    """`x`, cut or with zeros behind it."""
    have = x.shape[dim]
    if have >= length:
        return x if have == length else x.narrow(dim, 0, length)
    after = [0, 0] * (x.dim() - 1 - dim % x.dim()) + [0, length - have]
    return functional.pad(x, after)


def _last(x: Tensor, dim: int) -> Tensor:
    """`x` with `dim` as its last dimension; the last as `dim` of what that has made."""
    return x if dim % x.dim() == x.dim() - 1 else x.transpose(dim, -1)
