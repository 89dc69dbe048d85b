"""The tokens of one stream ask those of another, however many and however wide they are.

    y = x + O softmax(Q K^T / sqrt(E)) V    for each head, with Q from norm(x), K and V from norm(z)

Shapes: B batch, N tokens of D channels in x and y, M tokens of C channels in z, H heads, E = D / H; Q is [B, H, N, E],
K and V are [B, H, M, E].
Source: Vaswani et al., "Attention Is All You Need", 2017; streams of any shape as in Jaegle et al., "Perceiver: General
Perception with Iterative Attention", 2021.
"""

from torch import Tensor, nn
from torch.nn import functional

from edgepass.models import folds, parts
from edgepass.models.parts import Count, Tokens

GRADE = 0


class Settings(parts.Settings, frozen=True):
    """`heads` must divide the channels of the stream that asks."""

    heads: Count = 4


class Merge(nn.Module):
    """x_BND, z_BMC -> x_BND."""

    def __init__(self, into: Tokens, other: Tokens, settings: Settings) -> None:
        super().__init__()
        dim, self.heads = into.dim, settings.heads
        parts.head_dim(dim, self.heads)
        self.norm_into, self.norm_other = nn.LayerNorm(dim), nn.LayerNorm(other.dim)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(other.dim, dim)
        self.value = nn.Linear(other.dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x_BND: Tensor, z_BMC: Tensor) -> Tensor:
        """x_BND, z_BMC -> x_BND."""
        z_BMC = self.norm_other(z_BMC)
        q_BHNE = folds.split(self.query(self.norm_into(x_BND)), self.heads)
        k_BHME, v_BHME = (folds.split(f(z_BMC), self.heads) for f in (self.key, self.value))
        y_BHNE = functional.scaled_dot_product_attention(q_BHNE, k_BHME, v_BHME)
        y_BND: Tensor = self.out(folds.join(y_BHNE))
        return x_BND + y_BND
