"""Attention over all tokens of a grid whose weights are the Kronecker product of one small map for each axis.

    Y = A_1 V A_2^T,    which is vec(Y) = (A_1 kron A_2) vec(V),    for each head and channel on a grid of two axes
    A_i = softmax(Q_i K_i^T / sqrt(E))

Q_i and K_i come from the tokens' mean over all axes but i: every token reaches every other, at the cost of maps as
small as the axes. In the paper the values are a Kronecker product too and an attention pools; here each token has its
own value and the pool is the mean.

Shapes: B batch, N tokens over the grid, D channels, H heads, E = D / H; along an axis of A tokens Q_i and K_i are
[B, H, A, E] and A_i is [B, H, A, A]; V is [B, H, N, E].
Source: Si et al., "Towards Scalable Foundation Model for Multi-modal and Hyperspectral Geospatial Data", 2025.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from edgepass.models import folds, parts
from edgepass.models.parts import Count, Tokens

GRADE = 1
EXAMPLE: dict[str, Any] = {"embedding": {"name": "patch_grid", "size": 4}}
"""A grid of variates by time."""


class Settings(parts.Settings, frozen=True):
    """`heads` have maps of their own."""

    heads: Count = 4


class Mixer(nn.Module):
    """Attention factored over the axes, x_BND -> x_BND. `heads` must divide the channels."""

    def __init__(self, tokens: Tokens, settings: Settings) -> None:
        super().__init__()
        dim, self.grid, self.heads = tokens.dim, tokens.grid, settings.heads
        parts.head_dim(dim, self.heads)
        folds.needs_axes(self.grid)
        self.queries = nn.ModuleList(nn.Linear(dim, dim) for _ in self.grid)
        self.keys = nn.ModuleList(nn.Linear(dim, dim) for _ in self.grid)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Each token becomes a mixture of all of them."""
        _, tokens, dim = x_BND.shape
        v_BHNE = folds.split(self.value(x_BND), self.heads)
        outer = 1
        for axis, size in enumerate(self.grid):
            m_BAD = self._mean(x_BND, outer, size)
            q_BHAE, k_BHAE = (folds.split(f[axis](m_BAD), self.heads) for f in (self.queries, self.keys))
            # One axis at a time is a matrix product: A V, with all other coordinates beside the channels.
            rest = tokens // size * dim // self.heads
            v_ROAI = v_BHNE.reshape(-1, outer, size, rest // outer)
            v_BHAJ = v_ROAI.transpose(1, 2).reshape(-1, self.heads, size, rest)
            v_BHAJ = functional.scaled_dot_product_attention(q_BHAE, k_BHAE, v_BHAJ)
            v_RAOI = v_BHAJ.reshape(-1, size, outer, rest // outer)
            v_BHNE = v_RAOI.transpose(1, 2).reshape(-1, self.heads, tokens, dim // self.heads)
            outer *= size
        y_BND: Tensor = self.out(folds.join(v_BHNE))
        return y_BND

    @staticmethod
    def _mean(x_BND: Tensor, outer: int, size: int) -> Tensor:
        """x_BND -> m_BAD: over the coordinates inside an axis of `size`, then over the `outer` ones."""
        _, tokens, dim = x_BND.shape
        m_SID = x_BND.reshape(-1, tokens // (outer * size), dim)
        m_BOJ = m_SID.mean(dim=1).reshape(-1, outer, size * dim)
        return m_BOJ.mean(dim=1).reshape(-1, size, dim)
