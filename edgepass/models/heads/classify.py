"""The mean of all tokens, and a linear map from it to the scores of classes.

    y = W mean_n(x_n) + b

Shapes: B batch, N tokens, D channels, K classes; W is [K, D].
Source: Allam Jr. and McEwen, "Paying Attention to Astronomical Transients: Introducing the Time-series Transformer
for Photometric Classification", 2023.
"""

from typing import Any

from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.parts import Tokens

GRADE = 1
EXAMPLE: dict[str, Any] = {"embedding": {"name": "patch", "size": 4, "channels": "together"}}
"""One sequence of tokens a sample."""


class Settings(parts.Settings, frozen=True):
    """There is nothing to set."""


class Head(nn.Module):
    """x_BND -> y_BK, before any softmax."""

    def __init__(self, tokens: Tokens, shape: tuple[int, ...], outputs: int, settings: Settings) -> None:
        super().__init__()
        parts.must(
            tokens.folded == 1,
            f"each of the {tokens.folded} channels is a sequence of its own and would get classes of its own; "
            'give the patch embedding channels = "together", or take the patch_grid embedding',
        )
        self.project = nn.Linear(tokens.dim, outputs)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> y_BK."""
        y_BK: Tensor = self.project(x_BND.mean(dim=1))
        return y_BK
