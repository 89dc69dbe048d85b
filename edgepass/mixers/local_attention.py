"""Attention inside blocks of `window` neighbouring tokens; a window as wide as the sequence is full attention.

    Y = softmax(Q K^T / sqrt(E)) V    for each head, over the tokens of one block

When the window does not divide the number of tokens, the last, shorter block is attended on its own. That needs
neither padding nor a mask: a mask value large enough to silence a token would also stretch the int8 range of the
scores until nothing is left of them.

Shapes: B batch, N tokens, D channels, H heads, K blocks, W window, E head_dim, D / H unless it is given; Q, K and V
are [B, H, N, E].
Source: Vaswani et al., "Attention Is All You Need", 2017; blocks as in Zhang et al., "Efficient Long-Range
Transformers: You Need to Attend More, but Not Necessarily at Every Layer", 2023.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepass import folds, parts
from edgepass.parts import Count, Tokens

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
        tokens = x_BND.shape[1]
        q_BHNE, k_BHNE, v_BHNE = (folds.split(f(x_BND), self.heads) for f in (self.query, self.key, self.value))
        whole = tokens - tokens % self.window
        blocks = []
        if whole:
            blocks.append(self._blocks(q_BHNE, k_BHNE, v_BHNE, 0, whole, self.window))
        if whole < tokens:
            blocks.append(self._blocks(q_BHNE, k_BHNE, v_BHNE, whole, tokens, tokens - whole))
        y_BHNE = blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=2)
        y_BND: Tensor = self.out(folds.join(y_BHNE))
        return y_BND

    def _blocks(self, q_BHNE: Tensor, k_BHNE: Tensor, v_BHNE: Tensor, start: int, stop: int, window: int) -> Tensor:
        """Attention over tokens start..stop in blocks of `window`, which divides their number."""
        width, count = q_BHNE.shape[-1], stop - start
        if start == 0 and stop == window == q_BHNE.shape[2]:
            return functional.scaled_dot_product_attention(q_BHNE, k_BHNE, v_BHNE)

        def cut(x_BHNE: Tensor) -> Tensor:
            # Batch and heads share a dimension, so that no tensor has more than four.
            return x_BHNE[:, :, start:stop].reshape(-1, count // window, window, width)

        y_BKWE = functional.scaled_dot_product_attention(cut(q_BHNE), cut(k_BHNE), cut(v_BHNE))
        return y_BKWE.reshape(-1, self.heads, count, width)


def head_dim(dim: int, settings: Settings) -> int:
    """E, the width of a head over `dim` channels. Raises InputError where it is neither given nor a whole number."""
    return settings.head_dim or parts.head_dim(dim, settings.heads)
