"""Small models that keep something from call to call in their buffers, and data for each."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

CALLS = 11


class Streaming(nn.Module):
    """A causal convolution over a signal that comes in pieces of seven, with a ring buffer of what it still reads."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv1d(3, 8, 5)
        self.register_buffer("past", torch.zeros(1, 3, 4))

    def forward(self, x: Tensor) -> Tensor:
        """[1, 3, 7] to [1, 8, 7]."""
        whole = torch.cat([self.past, x], -1)
        self.past = whole[..., -4:]
        y: Tensor = self.layer(whole)
        return y


class Cached(nn.Module):
    """Attention of a token to all before it, with their keys and values, which are there, and how many there are."""

    def __init__(self, calls: int = CALLS) -> None:
        super().__init__()
        self.layer, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.register_buffer("keys", torch.zeros(1, 2, calls, 8))
        self.register_buffer("values", torch.zeros(1, 2, calls, 8), persistent=False)
        self.register_buffer("there", torch.zeros(calls, dtype=torch.bool))
        self.register_buffer("position", torch.zeros(1, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """[1, 1, 16] to the same."""
        query, key, value = (t.view(1, 1, 2, 8).transpose(1, 2) for t in self.layer(x).chunk(3, -1))
        keys, values, there, position = map(self.get_buffer, ("keys", "values", "there", "position"))
        keys.index_copy_(2, position, key)
        values[:, :, position] = value
        there.index_fill_(0, position, True)
        y = functional.scaled_dot_product_attention(query, keys, values, attn_mask=there[None, None, None])
        position += 1
        out: Tensor = self.out(y.transpose(1, 2).reshape(1, 1, 16))
        return out


class Average(nn.Module):
    """What a signal is above its exponential moving average, which begins elsewhere and is corrected by the count."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 5)
        self.register_buffer("mean", torch.linspace(-0.1, 0.1, 6))
        self.register_buffer("count", torch.tensor(0, dtype=torch.int32))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[1, 6] to [1, 5], and the average itself."""
        mean, count = self.get_buffer("mean"), self.get_buffer("count")
        count += 1
        mean.mul_(0.9).add_(0.1 * x[0])
        return self.layer(x - mean / (1 - 0.9**count)), mean


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "streaming": (Streaming, (1, 3, 7)),
    "cached": (Cached, (1, 1, 16)),
    "average": (Average, (1, 6)),
}


def made(name: str) -> nn.Module:
    """One of the models, with seeded weights."""
    torch.manual_seed(0)
    return MODELS[name][0]().eval()


def calls(name: str, seed: int = 0, sequences: int = 1) -> list[tuple[Tensor]]:
    """Arguments for as many calls as each model takes, as often as that."""
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(MODELS[name][1], generator=generator),) for _ in range(CALLS * sequences)]
