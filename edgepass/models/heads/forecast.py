"""A linear map from all tokens of a variate, side by side, to its forecast.

    y_c = W [x_1 ... x_K] + b,    over the K tokens that belong to variate c

Tokens that belong to no variate forecast all of them at once, and W has a row for each.

Shapes: B batch, H horizon, C channels, S sequences of tokens, K tokens and T = K * D values of a variate, R rows of
them; W is [H, T].
Source: Nie et al., "A Time Series is Worth 64 Words: Long-term Forecasting with Transformers", 2023.
"""

from torch import Tensor, nn
from torch.nn import functional

from edgepass.models import parts
from edgepass.models.parts import Share, Tokens

GRADE = 0
FORECASTS = True


class Settings(parts.Settings, frozen=True):
    """`dropout` is the share of the token values that each training step hides from the head."""

    dropout: Share = 0.0


class Head(nn.Module):
    """x_SND -> y_BHC, normalised."""

    def __init__(self, tokens: Tokens, shape: tuple[int, ...], outputs: int, settings: Settings) -> None:
        super().__init__()
        self.channels, self.horizon, self.dropout = shape[-1], outputs, settings.dropout
        together = self.channels // (tokens.variates * tokens.folded)
        self.project = nn.Linear(tokens.count // tokens.variates * tokens.dim, outputs * together)

    def forward(self, x_SND: Tensor) -> Tensor:
        """x_SND -> y_BHC."""
        return self.projected(x_SND).reshape(-1, self.channels, self.horizon).transpose(1, 2)

    def projected(self, x_SND: Tensor) -> Tensor:
        """x_SND -> y_RH: what the linear map gives, before it is laid out by variates."""
        x_RT = x_SND.reshape(-1, self.project.in_features)
        if self.training:  # asked here, so that no dropout operation reaches an exported graph
            x_RT = functional.dropout(x_RT, self.dropout)
        y_RH: Tensor = self.project(x_RT)
        return y_RH

    def start_at_zero(self) -> None:
        """Forecast nothing until trained."""
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)
