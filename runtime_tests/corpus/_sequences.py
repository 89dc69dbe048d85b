"""Sequences: tokens, waves and features, for models that take no images."""

import math

import torch
from torch import Tensor


def tokens(vocabulary: int, length: int, count: int) -> Tensor:
    """Ids [count, length], of which the n-th most frequent is n times as rare as the first (Zipf's law)."""
    weights = 1 / torch.arange(1, vocabulary)
    return 1 + torch.multinomial(weights, count * length, replacement=True).reshape(count, length)


def waves(length: int, channels: int, count: int) -> Tensor:
    """Real recordings are sums of a few periods and noise: [count, length, channels], of deviation 1."""
    time = torch.arange(length)[None, :, None] / length
    cycles, phase = 1 + 20 * torch.rand(2, count, 1, channels), 2 * math.pi * torch.rand(2, count, 1, channels)
    return torch.sin(2 * math.pi * cycles * time + phase).sum(0) + 0.3 * torch.randn(count, length, channels)


def bands(count: int, seed: int) -> tuple[list[Tensor], Tensor]:
    """Two noisy waves [count, 64, 2], and which of them are quick: 4 labels."""
    torch.manual_seed(seed)
    label, time = torch.randint(4, (count,)), torch.arange(64)[None, :] / 64
    quick = torch.stack([label % 2, label // 2], dim=1)
    cycles = 2 + 2 * torch.rand(count, 2) + 4 * quick
    angle = 2 * math.pi * (cycles[:, None] * time[:, :, None] + torch.rand(count, 1, 2))
    x = (0.5 + torch.rand(count, 1, 1)) * torch.sin(angle) + 0.4 * torch.randn(count, 64, 2)
    return [x], label


def sound(length: int, count: int) -> Tensor:
    """Waves of one channel, [count, length]."""
    return waves(length, 1, count)[..., 0]


def spectrogram(bins: int, frames: int, count: int) -> Tensor:
    """Features of sound by frequency, [count, bins, frames]."""
    return waves(frames, bins, count).transpose(1, 2)
