"""A learned blend of two streams, value by value.

    g = sigmoid(W1 x + W2 z + b);    y = g x + (1 - g) z

Shapes: B batch, N tokens, D channels; x, y, z and g are [B, N, D], W1 and W2 are [D, D].
Source: Lan et al., "Gateformer: Advancing Multivariate Time Series Forecasting through Temporal and Variate-Wise
Attention with Gated Representations", 2025.
"""

import torch
from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.parts import Tokens

GRADE = 0


class Settings(parts.Settings, frozen=True):
    """There is nothing to set."""


class Merge(nn.Module):
    """x_BND, z_BND -> x_BND."""

    def __init__(self, into: Tokens, other: Tokens, settings: Settings) -> None:
        super().__init__()
        parts.alike(into, other)
        self.first = nn.Linear(into.dim, into.dim)
        self.second = nn.Linear(into.dim, into.dim, bias=False)

    def forward(self, x_BND: Tensor, z_BND: Tensor) -> Tensor:
        """x_BND, z_BND -> x_BND."""
        g_BND = torch.sigmoid(self.first(x_BND) + self.second(z_BND))
        return z_BND + g_BND * (x_BND - z_BND)
