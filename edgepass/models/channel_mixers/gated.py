"""Gated linear units: one half of the widened channels decides how much of the other half passes.

    y = W3 (act(W1 x + b1) * (W2 x + b2)) + b3

With `activation` sigmoid it is GLU, with gelu GEGLU, with silu SwiGLU (silu(u) = u sigmoid(u)), with relu ReGLU. Three
matrices of ratio r weigh as much as a feed-forward part of ratio 1.5 r. The product is what int8 harms most: it has
the range of both factors together.

Shapes: B batch, N tokens, D channels, F = ratio * D hidden; W1 and W2 are [F, D], W3 is [D, F].
Source: Abdullah and Aydin, "Activator: GLU Activations as The Core Functions of a Vision Transformer", 2024; the
variants: Shazeer, "GLU Variants Improve Transformer", 2020.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepass.models import parts
from edgepass.models.parts import Positive, Tokens

GRADE = 0


class Settings(parts.Settings, frozen=True):
    """`ratio` is the hidden width, of gate and values each, as a multiple of the channels."""

    ratio: Positive = 2.0
    activation: Literal["sigmoid", "gelu", "silu", "relu"] = "silu"


class Mixer(nn.Module):
    """Gate and values, product, linear: x_BND -> x_BND."""

    def __init__(self, tokens: Tokens, settings: Settings) -> None:
        super().__init__()
        hidden = parts.hidden(tokens.dim, settings.ratio)
        self.activation = settings.activation
        self.gate = nn.Linear(tokens.dim, hidden)
        self.value = nn.Linear(tokens.dim, hidden)
        self.narrow = nn.Linear(hidden, tokens.dim)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        y_BND: Tensor = self.narrow(self._activated(self.gate(x_BND)) * self.value(x_BND))
        return y_BND

    def _activated(self, g_BNF: Tensor) -> Tensor:
        match self.activation:
            case "sigmoid":
                return torch.sigmoid(g_BNF)
            case "gelu":
                return functional.gelu(g_BNF)
            case "silu":
                return functional.silu(g_BNF)
            case _:
                return torch.relu(g_BNF)
