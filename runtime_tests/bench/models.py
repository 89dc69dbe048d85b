"""The models that are measured, seeded and untrained, with synthetic data.

Letters: B batch, N tokens, D width, C channels, H horizon.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepass import models

Arguments = list[tuple[Tensor, ...]]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model with its example arguments and disjoint samples to calibrate and to compare on."""

    model: nn.Module
    args: tuple[Tensor, ...]
    calibration: Arguments
    held_out: Arguments


class Block(nn.Module):
    """Pre-norm attention within windows, then a feed-forward part, as anybody would write them."""

    def __init__(self, dim: int = 64, heads: int = 4, window: int = 16) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norm_1, self.norm_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.ff = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x_BND: Tensor) -> Tensor:
        b, n, d = x_BND.shape
        parts = self.qkv(self.norm_1(x_BND)).reshape(b * n // self.window, self.window, 3, self.heads, d // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        x_BND = x_BND + self.out(mixed.transpose(1, 2).reshape(b, n, d))
        return x_BND + self.ff(self.norm_2(x_BND))


class Transformer(nn.Module):
    """x_BNC -> y_BHC, two blocks of width 64 over 96 tokens. Knows nothing of edgepass."""

    def __init__(self, channels: int = 7, tokens: int = 96, horizon: int = 24, dim: int = 64) -> None:
        super().__init__()
        self.embed = nn.Linear(channels, dim)
        self.blocks = nn.Sequential(Block(dim), Block(dim))
        self.head = nn.Linear(tokens, horizon)
        self.out = nn.Linear(dim, channels)

    def forward(self, x_BNC: Tensor) -> Tensor:
        x_BND = self.blocks(self.embed(x_BNC))
        y_BHC: Tensor = self.out(self.head(x_BND.transpose(1, 2)).transpose(1, 2))
        return y_BHC


def demo() -> Subject:
    """The model of `edgepass demo`: a week of half hours in, a day out."""
    return _subject(lambda: models.create("single-s", lookback=336, horizon=48, channels=1), (336, 1), 256)


def forecaster() -> Subject:
    """(a) the preset single-s over seven series."""
    return _subject(lambda: models.create("single-s", lookback=336, horizon=96, channels=7), (336, 7), 32)


def transformer() -> Subject:
    """(b) a plain transformer of somebody else's."""
    return _subject(Transformer, (96, 7), 32)


def tiny() -> Subject:
    """For the smoke test."""
    return _subject(lambda: models.create("single-xs", lookback=48, horizon=8, channels=1), (48, 1), 4)


SUBJECTS = {"demo": demo, "forecaster": forecaster, "transformer": transformer, "tiny": tiny}


def _subject(make: Callable[[], nn.Module], shape: tuple[int, int], calibration: int) -> Subject:
    torch.manual_seed(0)
    model = make().eval()
    samples = [(torch.from_numpy(window),) for window in _windows(shape, calibration + 16)]
    return Subject(model=model, args=samples[0], calibration=samples[:calibration], held_out=samples[calibration:])


def _windows(shape: tuple[int, int], count: int) -> np.ndarray:
    """[count, 1, rows, channels] float32: a day and a week of hours with noise, cut apart."""
    rows, channels = shape
    t = np.arange(rows * count)[:, None] + 5.0 * np.arange(channels)
    noise = np.random.default_rng(0).normal(0.0, 0.2, t.shape)
    wave = np.sin(2 * np.pi * t / 24) + 0.5 * np.sin(2 * np.pi * t / 168) + noise
    return wave.astype(np.float32).reshape(count, 1, rows, channels)
