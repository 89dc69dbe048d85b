"""A state for every channel whose decay, input and output each token chooses: Mamba's selective state space.

    h_n = exp(r_n A) h_(n-1) + r_n v_n B_n,    s_n = C_n h_n + d v_n,    y_n = W_o (s_n silu(W_g x_n))
    v = silu(conv(W_v x)),    r = softplus(W_r W_l v + b),    B = W_B v,    C = W_C v

A is negative, so every decay is between 0 and 1 and no exponential can overflow. The whole window needs no loop over
tokens: in round k each state takes in the one 2^k tokens before, and the product of the decays between, so that
log2(N) rounds of 3 N E M operations do what N steps would. With `both_ways` a second scan of its own runs from the last
token to the first and is added, as S-Mamba does over variates; there is no step then.

Shapes: B batch, N tokens, D channels, E = expand * D inner channels, M state, K taps; h is [B, N, E, M], A [E, M],
r and v [B, N, E], B and C [B, N, M].
Source: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023; both ways as in Wang et
al., "Is Mamba Effective for Time Series Forecasting?", 2024.
"""

import math
from typing import Annotated

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepass.models import parts
from edgepass.models.mixers import _causal
from edgepass.models.parts import Count, Tokens

GRADE = 1
SLOWEST, FASTEST = 1e-3, 1e-1
"""The rates that training starts from are spread between these, evenly in their logarithm."""


class Settings(parts.Settings, frozen=True):
    """`state` values for each of `expand` times the channels, behind a convolution of `taps` tokens."""

    state: Count = 16
    expand: Count = 2
    taps: Annotated[int, msgspec.Meta(ge=2)] = 4
    both_ways: bool = False


class Mixer(nn.Module):
    """x_BND -> x_BND. Unless it scans both ways it is causal and steps with what it saw, v_BEK, and its state h_BEM."""

    def __init__(self, tokens: Tokens, settings: Settings) -> None:
        super().__init__()
        self.ahead = Scan(tokens.dim, settings)
        self.back = Scan(tokens.dim, settings, back=True) if settings.both_ways else None

    def forward(self, x_BND: Tensor) -> Tensor:
        """Each token is given what it chooses to read of the state that all tokens up to it have written."""
        y_BND: Tensor = self.ahead(x_BND)
        return y_BND if self.back is None else y_BND + self.back(x_BND)

    def start(self, batch: int) -> tuple[Tensor, ...]:
        """Zeros [B, E, K - 1] and [B, E, M]. Raises InputError where it scans both ways."""
        parts.must(
            self.back is None, "selective_scan with both_ways needs all tokens at once; leave both_ways out to step"
        )
        inner, state = self.ahead.log_decay_EM.shape
        zeros = self.ahead.log_decay_EM.new_zeros
        return zeros(batch, inner, self.ahead.conv.kernel_size[1] - 1), zeros(batch, inner, state)

    def step(self, x_BD: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """x_BD, v_BEK, h_BEM -> y_BD and the next two."""
        return self.ahead.step(x_BD, *state)


class Scan(nn.Module):
    """One direction: x_BND -> y_BND."""

    def __init__(self, dim: int, settings: Settings, *, back: bool = False) -> None:
        super().__init__()
        inner, state, rank = dim * settings.expand, settings.state, -(-dim // 16)
        self.reverse = back
        self.value = nn.Linear(dim, inner, bias=False)
        self.gate = nn.Linear(dim, inner, bias=False)
        self.conv = nn.Conv2d(inner, inner, (1, settings.taps), groups=inner)
        self.rate_low = nn.Linear(inner, rank, bias=False)
        self.rate = nn.Linear(rank, inner)
        self.write = nn.Linear(inner, state, bias=False)
        self.read = nn.Linear(inner, state, bias=False)
        self.out = nn.Linear(inner, dim, bias=False)
        self.log_decay_EM = nn.Parameter(torch.arange(1.0, state + 1).log().repeat(inner, 1))
        self.direct_E = nn.Parameter(torch.ones(inner))
        rate_E = torch.exp(torch.empty(inner).uniform_(math.log(SLOWEST), math.log(FASTEST)))
        with torch.no_grad():
            self.rate.bias.copy_(rate_E + torch.log(-torch.expm1(-rate_E)))  # softplus of it is rate_E

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> y_BND."""
        v_BEN = _causal.conv(self.value(x_BND).transpose(1, 2), self.conv.weight, self.conv.bias, back=self.reverse)
        v_BNE = functional.silu(v_BEN.transpose(1, 2))
        a_BNEM, b_BNEM = self._transition(v_BNE)
        h_BNEM = scan(a_BNEM, b_BNEM, back=self.reverse)
        y_BND: Tensor = self.out(self._observe(v_BNE, h_BNEM) * functional.silu(self.gate(x_BND)))
        return y_BND

    def step(self, x_BD: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """x_BD, v_BEK, h_BEM -> y_BD and the next two."""
        past_BEK, h_BEM = state
        inner, taps = past_BEK.shape[1], self.conv.kernel_size[1]
        seen_BEK = torch.cat([past_BEK, self.value(x_BD).reshape(-1, inner, 1)], dim=2)
        v_B1E = functional.silu(self.conv(seen_BEK.reshape(-1, inner, 1, taps)).reshape(-1, 1, inner))
        a_B1EM, b_B1EM = self._transition(v_B1E)
        h_B1EM = a_B1EM * h_BEM.reshape(b_B1EM.shape) + b_B1EM
        y_BE = self._observe(v_B1E, h_B1EM).reshape(-1, inner) * functional.silu(self.gate(x_BD))
        return self.out(y_BE), seen_BEK[:, :, 1:], h_B1EM.reshape(-1, *h_BEM.shape[1:])

    def _transition(self, v_BNE: Tensor) -> tuple[Tensor, Tensor]:
        """exp(r A) and r v B, [B, N, E, M]."""
        _, count, inner = v_BNE.shape
        rate_BNE = functional.softplus(self.rate(self.rate_low(v_BNE)))
        a_BNEM = torch.exp(rate_BNE.reshape(-1, count, inner, 1) * -torch.exp(self.log_decay_EM))
        b_BNEM = (rate_BNE * v_BNE).reshape(-1, count, inner, 1) * self.write(v_BNE).reshape(
            -1, count, 1, a_BNEM.shape[3]
        )
        return a_BNEM, b_BNEM

    def _observe(self, v_BNE: Tensor, h_BNEM: Tensor) -> Tensor:
        _, count, inner, state = h_BNEM.shape
        s_RE1 = torch.bmm(h_BNEM.reshape(-1, inner, state), self.read(v_BNE).reshape(-1, state, 1))
        return s_RE1.reshape(-1, count, inner) + self.direct_E * v_BNE


def scan(a: Tensor, b: Tensor, *, back: bool = False) -> Tensor:
    """h_n = a_n h_(n-1) + b_n over the second dimension, or over h_(n+1) with `back`, in log2(N) rounds."""
    count, reach = a.shape[1], 1
    while reach < count:
        lower, upper = slice(0, count - reach), slice(reach, count)
        (rest, older), done = (
            ((lower, upper), slice(count - reach, count)) if back else ((upper, lower), slice(0, reach))
        )
        b_rest = b[:, rest] + a[:, rest] * b[:, older]
        a_rest = a[:, rest] * a[:, older]
        b = torch.cat([b_rest, b[:, done]] if back else [b[:, done], b_rest], dim=1)
        a = torch.cat([a_rest, a[:, done]] if back else [a[:, done], a_rest], dim=1)
        reach *= 2
    return b
