"""A pass: one lightweight unit of a Passformer. Shapes: B batch, N tokens, D channels."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepass import catalog
from edgepass.models.config import PassConfig


class FeedForward(nn.Module):
    """Mixes the channels of each token: linear, GELU, linear."""

    def __init__(self, dim: int, ratio: float) -> None:
        super().__init__()
        hidden = round(dim * ratio)
        self.widen = nn.Linear(dim, hidden)
        self.narrow = nn.Linear(hidden, dim)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        y_BND: Tensor = self.narrow(functional.gelu(self.widen(x_BND)))
        return y_BND


class Pass(nn.Module):
    """Token mixer and gate, then feed-forward: x_BND -> x_BND. A part that the configuration leaves out costs nothing.

    The gate is a sigmoid of the normalised input, and scales what the mixer gives, or that input where there is none.
    """

    def __init__(self, dim: int, config: PassConfig) -> None:
        super().__init__()
        self.skip = config.skip
        mixes = config.mixer is not None or config.gate
        self.mixer: nn.Module | None = None
        if config.mixer is not None:
            module = catalog.load("mixers", config.mixer.name)
            self.mixer = cast(nn.Module, module.Mixer(dim, config.mixer))
        self.gate = nn.Linear(dim, dim) if config.gate else None
        self.feed_forward = None if config.feed_forward is None else FeedForward(dim, config.feed_forward)
        self.norm_mix = nn.LayerNorm(dim) if config.norm and mixes else None
        self.norm_feed = nn.LayerNorm(dim) if config.norm and self.feed_forward is not None else None

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        if self.mixer is not None or self.gate is not None:
            n_BND = x_BND if self.norm_mix is None else self.norm_mix(x_BND)
            y_BND = n_BND if self.mixer is None else self.mixer(n_BND)
            if self.gate is not None:
                y_BND = y_BND * torch.sigmoid(self.gate(n_BND))
            x_BND = x_BND + y_BND if self.skip else y_BND
        if self.feed_forward is not None:
            y_BND = self.feed_forward(x_BND if self.norm_feed is None else self.norm_feed(x_BND))
            x_BND = x_BND + y_BND if self.skip else y_BND
        return x_BND
