"""Attention of a cost that is linear in the tokens: ReLU for softmax, and a convolution for what is lost near by.

    Y = relu(Q) (relu(K)^T V / N) / (relu(Q) mean(relu(K)) + eps) + depthwise(V)    for each head

A query that no key answers gets the convolution alone. Q and K are taken as the projections give them: positions are
the encoding's.

Shapes: B batch, N tokens, D channels, H heads, E = D / H; Q, K and V are [B, H, N, E].
Source: Guo et al., "SLAB: Efficient Transformers with Simplified Linear Attention and Progressive Re-parameterized
Batch Normalization", 2024.
"""

from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.mixers import _linear
from edgepass.models.mixers._pictures import Depthwise
from edgepass.models.parts import Count, Tokens

GRADE = 1


class Settings(parts.Settings, frozen=True):
    """`window` of the convolution is in tokens, and odd."""

    heads: Count = 4
    window: Count = 5


class Mixer(nn.Module):
    """Simplified linear attention, x_BND -> x_BND. `heads` must divide the channels."""

    def __init__(self, tokens: Tokens, settings: Settings) -> None:
        super().__init__()
        dim, self.heads = tokens.dim, settings.heads
        parts.head_dim(dim, self.heads)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.near = Depthwise(tokens, dim, settings.window)
        self.out = nn.Linear(dim, dim)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        v_BND = self.value(x_BND)
        y_BND = _linear.attend(self.query(x_BND).relu(), self.key(x_BND).relu(), v_BND, self.heads)
        z_BND: Tensor = self.out(y_BND + self.near(v_BND))
        return z_BND
