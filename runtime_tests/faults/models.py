"""The models that faults are planted in, and their data."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepass.samples import Samples

STEPS, FEATURES = 16, 8


class Small(nn.Module):
    """Two inputs [B, 16, 8] and two outputs [B, 16, 6], a square weight, a pad, a factor and a subtraction."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.skip = nn.Conv1d(FEATURES, 16, 3), nn.Linear(FEATURES, 16)
        self.norm, self.square = nn.LayerNorm(16), nn.Linear(16, 16)
        self.gate, self.left, self.right = nn.Linear(16, 16), nn.Linear(16, 6), nn.Linear(16, 6)

    def forward(self, x_BTC: Tensor, y_BTC: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.relu(self.conv(functional.pad(x_BTC.transpose(1, 2), (2, 0)))).transpose(1, 2)
        h = self.norm(h - self.skip(y_BTC) * 0.7)
        h = torch.relu(self.square(h)) * torch.softmax(self.gate(h), -1) * 16
        return self.left(h), self.right(h)


class Indices(nn.Module):
    """The number of a class, for each of 16 steps."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = nn.Linear(FEATURES, 100)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.classes(x_BTC).argmax(-1)


class Offset(nn.Module):
    """300 and a spread of 0.3, by one layer, as a trained regressor gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(FEATURES, 16), nn.Linear(16, 1)
        nn.init.constant_(self.last.bias, 300.0)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x_BTC)))


class Rows(nn.Module):
    """[B, 16, 8] to [B, 16, 6], where each row is less half the mean of those that it came with."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(FEATURES, 16), nn.Linear(16, 6)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x_BTC - x_BTC.mean(0, keepdim=True) / 2)))


class Channels(nn.Module):
    """Four values of 0 to 640 and one of 0 to 1, by one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.box = nn.Linear(FEATURES, 5)
        with torch.no_grad():
            self.box.weight[:4].mul_(320)
            self.box.bias[:4].fill_(320)
            self.box.weight[4].mul_(0.1)
            self.box.bias[4].fill_(0.5)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.box(x_BTC)


def small(seed: int = 0) -> nn.Module:
    """Seeded."""
    return _seeded(Small, seed)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "small": small,
    "indices": lambda: _seeded(Indices),
    "offset": lambda: _seeded(Offset),
    "channels": lambda: _seeded(Channels),
    "rows": lambda: _seeded(Rows),
}
BATCHES = {"rows": (2, 6)}
"""Of models whose batch varies: that of the samples, and the largest."""


def _seeded(kind: type[Any], seed: int = 0) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind().eval()


def samples(count: int, seed: int, inputs: int, batch: int = 1) -> Samples:
    generator = np.random.default_rng(seed)
    shape = (count, batch, STEPS, FEATURES)
    return Samples(inputs=[generator.normal(size=shape).astype(np.float32) for _ in range(inputs)])
