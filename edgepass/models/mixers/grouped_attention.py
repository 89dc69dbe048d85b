"""Attention over all tokens with fewer query heads than the width would hold, and fewer key heads still.

    Y = W_o [Y_1 ... Y_Q],    Y_i = softmax(Q_i K_g^T / sqrt(E)) V_g,    g = floor(i G / Q)

With G = Q = heads this is multi-head attention, with Q = heads grouped-query attention, and multi-query attention where
G = 1. Scores cost Q / heads of what they would. The queries that share a key head are laid one after another along the
tokens, so that keys and values are used as they are and never copied.

Shapes: B batch, N tokens, D channels, E = D / heads; Q query heads, G key heads; Q_i, K_g and V_g are [B, N, E].
Sources: Filipek, "Sparse Query Attention (SQA): A Computationally Efficient Attention Mechanism with Query Heads
Reduction", 2025; Ainslie et al., "GQA: Training Generalized Multi-Query Transformer Models from Multi-Head
Checkpoints", 2023; Shazeer, "Fast Transformer Decoding: One Write-Head is All You Need", 2019.
"""

from torch import Tensor, nn
from torch.nn import functional

from edgepass.models import folds, parts
from edgepass.models.parts import Count, Tokens

GRADE = 0


class Settings(parts.Settings, frozen=True):
    """`heads` is how many the full width would have; `query_heads` and `key_heads` are those that there are."""

    heads: Count = 4
    query_heads: Count = 2
    key_heads: Count = 1


class Mixer(nn.Module):
    """Attention with shared and left out heads, x_BND -> x_BND."""

    def __init__(self, tokens: Tokens, settings: Settings) -> None:
        super().__init__()
        dim, heads = tokens.dim, settings.heads
        self.query_heads, self.key_heads = settings.query_heads, settings.key_heads
        width = parts.head_dim(dim, heads)
        parts.must(
            self.query_heads <= heads,
            f"there are {self.query_heads} query heads, more than the {heads} heads that the width holds; use at most "
            f"{heads}",
        )
        parts.must(
            self.query_heads % self.key_heads == 0,
            f"{self.key_heads} key heads do not divide {self.query_heads} query heads; 1 always does",
        )
        self.query = nn.Linear(dim, self.query_heads * width)
        self.key = nn.Linear(dim, self.key_heads * width)
        self.value = nn.Linear(dim, self.key_heads * width)
        self.out = nn.Linear(self.query_heads * width, dim)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Each token becomes a mixture of all of them."""
        q_BHNE = folds.split(self.query(x_BND), self.query_heads)
        k_BGNE, v_BGNE = (folds.split(f(x_BND), self.key_heads) for f in (self.key, self.value))
        _, _, tokens, width = q_BHNE.shape
        q_BGME = q_BHNE.reshape(-1, self.key_heads, self.query_heads // self.key_heads * tokens, width)
        y_BGME = functional.scaled_dot_product_attention(q_BGME, k_BGNE, v_BGNE)
        y_BND: Tensor = self.out(folds.join(y_BGME.reshape(-1, self.query_heads, tokens, width)))
        return y_BND
