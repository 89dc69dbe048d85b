"""A small forecaster's sizes and data, and what all targets and recipes are."""

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgepass import catalog

LOOKBACK, HORIZON, CHANNELS = 63, 5, 3
RECIPES = catalog.names("recipes")
TARGETS = catalog.names("targets")


def slow(target: str) -> Any:
    return pytest.param(target, marks=pytest.mark.slow)


def sampled(cases: Iterable[tuple[Any, ...]], quick: Collection[tuple[Any, ...]]) -> list[Any]:
    """The cases; those that are not `quick` are in `make test-all` alone."""
    return [pytest.param(*case, marks=() if case in quick else (pytest.mark.slow,)) for case in cases]


def waves(count: int, seed: int) -> np.ndarray:
    """[count, 1, L, C] float32 windows of waves with a level, a scale and noise of their own."""
    generator = np.random.default_rng(seed)
    t = np.arange(LOOKBACK)[None, :, None]
    phase = generator.uniform(0, 6, (count, 1, CHANNELS))
    noise = generator.normal(0, 0.1, (count, LOOKBACK, CHANNELS))
    x = 500 + 40 * np.sin(t / 4 + phase) + 20 * noise
    return x[:, None].astype(np.float32)


def pictures(count: int, *shape: int) -> Tensor:
    """[count, *shape] of noise, each with a brightness of its own: what a mean over all places leaves of a picture."""
    return torch.randn(count, *shape) + 2 * torch.randn(count, *(1 for _ in shape))


def convolutional() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(4, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 6)).eval()


class Recurrent(nn.Module):
    """One of torch's own recurrent layers, and a head."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer, self.out = layer, nn.Linear(layer.hidden_size * (2 if layer.bidirectional else 1), 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.layer(x)[0])
        return y
