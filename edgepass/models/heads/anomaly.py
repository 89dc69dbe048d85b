"""How badly a window fits through a bottleneck: the reconstruction error of the input, span by span.

    z' = W2 (W1 [x_1 ... x_K] + b1) + b2,    score_o = mean over span o of (z - z')^2

over the K tokens of a variate; z is its window as the embedding had it, z' what a few values let the model tell of
it. Trained on usual windows to make the mean score small, it stays high where a window is like none of them. The
window is cut into as many spans of equal length as outputs are asked for: 1 scores it whole, `lookback` each row.

Shapes: B batch, L lookback, C channels, O outputs, S sequences of tokens, T = K * D values of a variate, R rows of
them, E bottleneck; W1 is [E, T], W2 is [L, E].
Source: Sakurada and Yairi, "Anomaly Detection Using Autoencoders with Nonlinear Dimensionality Reduction", 2014.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepass.models import parts
from edgepass.models.parts import Count, Tokens

GRADE = 1
COMPARES = True


class Settings(parts.Settings, frozen=True):
    """`bottleneck` is how many values a window of one variate is told in."""

    bottleneck: Count = 8


class Head(nn.Module):
    """x_SND and z_BLC -> score_BOC, never negative."""

    mean_OL: Tensor

    def __init__(self, tokens: Tokens, shape: tuple[int, ...], outputs: int, settings: Settings) -> None:
        super().__init__()
        parts.must(len(shape) == 2, f"it compares windows of a series, not an input of {len(shape)} axes")
        self.lookback, self.channels = shape
        parts.must(
            outputs <= self.lookback,
            f"{outputs} spans of a window of {self.lookback} rows; a span has one row at least",
        )
        together = self.channels // (tokens.variates * tokens.folded)
        self.squeeze = nn.Linear(tokens.count // tokens.variates * tokens.dim, settings.bottleneck)
        self.widen = nn.Linear(settings.bottleneck, self.lookback * together)
        self.register_buffer("mean_OL", spans(self.lookback, outputs), persistent=False)

    def forward(self, x_SND: Tensor, z_BLC: Tensor) -> Tensor:
        """x_SND and z_BLC -> score_BOC."""
        told_RL = self.widen(self.squeeze(x_SND.reshape(-1, self.squeeze.in_features)))
        error_BCL = z_BLC.transpose(1, 2) - told_RL.reshape(-1, self.channels, self.lookback)
        return functional.linear(error_BCL * error_BCL, self.mean_OL).transpose(1, 2)


def spans(lookback: int, outputs: int) -> Tensor:
    """[O, L] float32: row o takes the mean over span o; lengths differ by one row at most."""
    owner_L = torch.arange(lookback) * outputs // lookback
    in_OL = (owner_L == torch.arange(outputs)[:, None]).double()
    return (in_OL / in_OL.sum(dim=1, keepdim=True)).float()
