"""The scores of every word at every token.

    y_n = W x_n + b

For the next word, every mixer of the passes must be causal: a token may see none that follow it.

Shapes: B batch, N tokens, D channels, V vocabulary; W is [V, D].
Source: Vaswani et al., "Attention Is All You Need", 2017.
"""

from typing import Any

from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.parts import Tokens

GRADE = 0
EXAMPLE: dict[str, Any] = {"embedding": {"name": "words"}}
"""Words in, scores of words out."""


class Settings(parts.Settings, frozen=True):
    """There is nothing to set."""


class Head(nn.Module):
    """x_BND -> y_BNV, before any softmax."""

    def __init__(self, tokens: Tokens, shape: tuple[int, ...], outputs: int, settings: Settings) -> None:
        super().__init__()
        parts.must(
            shape == (tokens.count,),
            f"the input is {list(shape)} and the passes give {tokens.count} tokens; scores of words need the words "
            "embedding, and a topology that keeps every token",
        )
        self.project = nn.Linear(tokens.dim, outputs)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> y_BNV."""
        y_BNV: Tensor = self.project(x_BND)
        return y_BNV
