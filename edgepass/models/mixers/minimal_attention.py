"""Attention with one matrix in all: queries and keys share it, values and output are the tokens themselves.

    Y = softmax(X W X^T / sqrt(D)) X,                 W any matrix
    Y = softmax((X A) (X A)^T / sqrt(R)) X,           symmetric: as like as the tokens' projections

The symmetric form has half the parameters or fewer, and every token is like itself at least as a vector of its length
is; where W may be any matrix, a token can be unlike itself.

Shapes: B batch, N tokens, D channels, R rank; X is [B, N, D], W is [D, D], A is [D, R].
Source: Bermeitinger et al., "Reducing the Transformer Architecture to a Minimum", 2024.
"""

from torch import Tensor, nn
from torch.nn import functional

from edgepass.models import folds, parts
from edgepass.models.parts import Count, Tokens

GRADE = 0


class Settings(parts.Settings, frozen=True):
    """`rank` is for the symmetric form: the columns of A; as many as channels where it is left out."""

    symmetric: bool = False
    rank: Count | None = None


class Mixer(nn.Module):
    """Single-head attention of D * D parameters, or D * rank: x_BND -> x_BND."""

    def __init__(self, tokens: Tokens, settings: Settings) -> None:
        super().__init__()
        parts.must(
            settings.symmetric or settings.rank is None,
            f"rank is {settings.rank}, and only the symmetric form has one; set symmetric = true or leave rank out",
        )
        self.symmetric = settings.symmetric
        self.project = nn.Linear(tokens.dim, min(settings.rank or tokens.dim, tokens.dim), bias=False)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Each token becomes a mixture of all of them."""
        # ONNX's converter takes attention with an axis of heads only, so there is one of a single head.
        q_B1NR, x_B1ND = folds.split(self.project(x_BND), 1), folds.split(x_BND, 1)
        k_B1NR = q_B1NR if self.symmetric else x_B1ND
        return folds.join(functional.scaled_dot_product_attention(q_B1NR, k_B1NR, x_B1ND))
