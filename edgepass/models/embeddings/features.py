"""Numbers without order, such as the columns of a table, as a token each.

    t_f = z_f w_f + b_f

Shapes: B batch, F features = tokens, D width; w and b are [F, D].
Source: Gorishniy et al., "Revisiting Deep Learning Models for Tabular Data", 2021.
"""

from typing import Any

import torch
from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.parts import Tokens

GRADE = 0
SHAPE = ("features",)
EXAMPLE: dict[str, Any] = {"encoding": {"name": "none"}, "head": {"name": "classify"}}
"""A row of a table and its class; each feature has a vector of its own already."""


class Settings(parts.Settings, frozen=True):
    """There is nothing to set."""


class Embedding(nn.Module):
    """z_BF -> x_BFD. Features are best given with mean 0 and variance 1."""

    def __init__(self, shape: tuple[int, ...], dim: int, settings: Settings) -> None:
        super().__init__()
        self.tokens = Tokens(shape, dim)
        self.weight_FD = nn.Parameter(torch.empty(*shape, dim).uniform_(-1, 1) * dim**-0.5)
        self.bias_FD = nn.Parameter(torch.empty(*shape, dim).uniform_(-1, 1) * dim**-0.5)

    def forward(self, z_BF: Tensor) -> Tensor:
        """z_BF -> x_BFD."""
        return z_BF.unsqueeze(2) * self.weight_FD + self.bias_FD
