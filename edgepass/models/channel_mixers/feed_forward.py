"""The transformer's feed-forward part: widen, GELU, narrow, each token for itself.

    y = W2 gelu(W1 x + b1) + b2

Shapes: B batch, N tokens, D channels, F = ratio * D hidden; W1 is [F, D], W2 is [D, F].
Source: Vaswani et al., "Attention Is All You Need", 2017; GELU: Hendrycks and Gimpel, 2016.
"""

from torch import Tensor, nn
from torch.nn import functional

from edgepass.models import parts
from edgepass.models.parts import Positive, Tokens

GRADE = 0


class Settings(parts.Settings, frozen=True):
    """`ratio` is the hidden width as a multiple of the channels."""

    ratio: Positive = 2.0


class Mixer(nn.Module):
    """Linear, GELU, linear: x_BND -> x_BND."""

    def __init__(self, tokens: Tokens, settings: Settings) -> None:
        super().__init__()
        hidden = parts.hidden(tokens.dim, settings.ratio)
        self.widen = nn.Linear(tokens.dim, hidden)
        self.narrow = nn.Linear(hidden, tokens.dim)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        y_BND: Tensor = self.narrow(self.activated(self.widen(x_BND)))
        return y_BND

    def activated(self, h_BNF: Tensor) -> Tensor:
        """h_BNF -> h_BNF."""
        return functional.gelu(h_BNF)
