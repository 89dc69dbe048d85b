"""Every token beside the mean of the other stream, mapped back to its width: side features for a series.

    y_n = W x_n + V mean_m(z_m) + b

That is a linear map of [x_n, mean(z)], with the part of the mean computed once and not at every token.

Shapes: B batch, N and M tokens of D and E channels; x and y are [B, N, D], z is [B, M, E], W is [D, D], V is [D, E].
Source: Allam Jr. and McEwen, "Paying Attention to Astronomical Transients: Introducing the Time-series Transformer
for Photometric Classification", 2023.
"""

from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.parts import Tokens

GRADE = 1


class Settings(parts.Settings, frozen=True):
    """There is nothing to set."""


class Merge(nn.Module):
    """x_BND, z_BME -> x_BND. The streams may have any lengths and widths."""

    def __init__(self, into: Tokens, other: Tokens, settings: Settings) -> None:
        super().__init__()
        self.own = nn.Linear(into.dim, into.dim)
        self.side = nn.Linear(other.dim, into.dim, bias=False)

    def forward(self, x_BND: Tensor, z_BME: Tensor) -> Tensor:
        """x_BND, z_BME -> x_BND."""
        side_B1D: Tensor = self.side(z_BME.mean(dim=1, keepdim=True))
        y_BND: Tensor = self.own(x_BND) + side_B1D
        return y_BND
