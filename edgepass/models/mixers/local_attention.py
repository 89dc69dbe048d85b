"""Attention inside blocks of `window` neighbouring tokens; a window as wide as the sequence is full attention.

    Y = softmax(Q K^T / sqrt(E)) V    for each head, over the tokens of one block

When the window does not divide the number of tokens, the last, shorter block is attended on its own, without a mask.

Shapes: B batch, N tokens, D channels, H heads, K blocks, W window, E head_dim, D / H unless it is given; Q, K and V
are [B, H, N, E].
Source: Vaswani et al., "Attention Is All You Need", 2017; blocks as in Zhang et al., "Efficient Long-Range
Transformers: You Need to Attend More, but Not Necessarily at Every Layer", 2023.
"""

from torch import Tensor, nn

from edgepass.kernels import windows
from edgepass.models import folds, parts
from edgepass.models.parts import Count, Tokens

GRADE = 0


class Settings(parts.Settings, frozen=True):
    """`window` is in tokens. `head_dim` is the width of a head; without it the heads share the channels."""

    heads: Count = 4
    head_dim: Count | None = None
    window: Count = 7


class Mixer(nn.Module):
    """Block-local multi-head self-attention, x_BND -> x_BND. Without `head_dim`, `heads` must divide the channels."""

    def __init__(self, tokens: Tokens, settings: Settings) -> None:
        super().__init__()
        dim = tokens.dim
        self.heads = settings.heads
        self.window = settings.window
        width = settings.heads * head_dim(dim, settings)
        self.query = nn.Linear(dim, width)
        self.key = nn.Linear(dim, width)
        self.value = nn.Linear(dim, width)
        self.out = nn.Linear(width, dim)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Each token becomes a mixture of the tokens of its own block."""
        q_BHNE, k_BHNE, v_BHNE = (folds.split(f(x_BND), self.heads) for f in (self.query, self.key, self.value))
        y_BND: Tensor = self.out(folds.join(windows.attend(q_BHNE, k_BHNE, v_BHNE, self.window)))
        return y_BND


def head_dim(dim: int, settings: Settings) -> int:
    """E, the width of a head over `dim` channels. Raises InputError where it is neither given nor a whole number."""
    return settings.head_dim or parts.head_dim(dim, settings.heads)
