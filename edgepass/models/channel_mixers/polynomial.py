"""A feed-forward part whose activation is a learned polynomial of degree three.

    relu    y = W2 (a1 r + a2 r^2 + a3 r^3) + b2,                r = relu(h),  h = W1 x + b1
    norm    y = W2 (a1 n(h) + a2 n(h^2) + a3 n(h^3)) + b2,       n(u) = u / sqrt(mean(u^2))

Each a starts at 1/3; the constant term of the source is W2's own bias. Cubes outgrow float16 (65504) above 40, sixth
powers, which n(h^3) needs, above 6. So r stops at 32; and h is first normalised, to a deviation small enough that no
value of it can exceed 6: n does not change by it, as n(cu) = n(u). Nor does it where h is first brought near 1 by its
mean magnitude, since the square of what is below 0.01 is hardly a number in float16.

Shapes: B batch, N tokens, D channels, F = ratio * D hidden; W1 is [F, D], W2 is [D, F], each a is [1]; mean is over F.
Source: Zhuo et al., "Polynomial Composition Activations: Unleashing the Dynamics of Large Language Models", 2025.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from edgepass.models.channel_mixers import feed_forward
from edgepass.models.parts import Tokens

GRADE = 1
MOST = 32.0
"""Of relu(h): 32^3 is half of what float16 holds."""
BOUND = 6.0
"""Of the normalised h: 6^6 is 46656."""
EPSILON = 1e-4
SMALLEST = 2.0**-14
"""Added to a mean magnitude: what is below in float16, some devices take for 0."""


class Settings(feed_forward.Settings, frozen=True):
    """`form` is PolyReLU or PolyNorm; `ratio` is the hidden width as a multiple of the channels."""

    form: Literal["relu", "norm"] = "norm"


class Mixer(feed_forward.Mixer):
    """Linear, polynomial, linear: x_BND -> x_BND."""

    def __init__(self, tokens: Tokens, settings: Settings) -> None:
        super().__init__(tokens, settings)
        self.form = settings.form
        # Of F values with a mean square of 1, none exceeds sqrt(F).
        self.deviation = min(1.0, BOUND / self.widen.out_features**0.5)
        self.first, self.second, self.third = (nn.Parameter(torch.full((1,), 1 / 3)) for _ in range(3))

    def activated(self, h_BNF: Tensor) -> Tensor:
        """The polynomial of h_BNF."""
        return self._of_relu(h_BNF) if self.form == "relu" else self._of_norms(h_BNF)

    def _of_relu(self, h_BNF: Tensor) -> Tensor:
        r_BNF = torch.clamp(h_BNF, 0.0, MOST)
        return r_BNF * (self.first + r_BNF * (self.second + r_BNF * self.third))

    def _of_norms(self, h_BNF: Tensor) -> Tensor:
        # No value is more than F times the mean magnitude, so none of these exceeds BOUND^2.
        near_BNF = h_BNF * (self.deviation**2 / (h_BNF.abs().mean(dim=-1, keepdim=True) + SMALLEST))
        n_BNF = _normalised(near_BNF, EPSILON)
        u_BNF = n_BNF * self.deviation
        square_BNF = u_BNF * u_BNF
        second_BNF = _normalised(square_BNF, EPSILON * self.deviation**2)
        third_BNF = _normalised(square_BNF * u_BNF, EPSILON * self.deviation**3)
        return n_BNF * self.first + second_BNF * self.second + third_BNF * self.third


def _normalised(u_BNF: Tensor, epsilon: float) -> Tensor:
    """u with a mean square of 1 over F, or zeros where u is zero."""
    return u_BNF / (torch.sqrt((u_BNF * u_BNF).mean(dim=-1, keepdim=True)) + epsilon)
