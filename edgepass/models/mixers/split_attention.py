"""Few channels attend, more of them are convolved, some are memory; then all of them interact.

    x = [m | a | b | c];    f = [attention(a) | depthwise_small(b) | depthwise_large(c)]
    f' = f + inter_1(f),    z = [m | f'],    y = z + inter_2(z)
    inter(u) = W_2 depthwise_3(gelu(W_1 norm(u)))
    attention(a) = Q (K^T a / N) / (Q mean(K) + eps),    Q, K = elu(W a) + 1    for each head

Attention costs the square of its channels, so it gets a quarter of them. The memory m is a part of the channels that
only inter_2 changes: the skip around the pass carries it to the next one. Batch norms are layer norms here, as in all
passes, and the outer scale and skip are the pass's.

Shapes: B batch, N tokens, D channels, G = floor(D / 4); a, b and c are [B, N, G], m is [B, N, D - 3G].
Source: Zhou et al., "CARE Transformer: Mobile-Friendly Linear Visual Transformer via Decoupled Dual Interaction",
2025, and the code published with it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepass.models import parts
from edgepass.models.mixers import _linear
from edgepass.models.mixers._pictures import Depthwise
from edgepass.models.parts import Count, Positive, Tokens

GRADE = 1


class Settings(parts.Settings, frozen=True):
    """`small` and `large` windows are in tokens, and odd; `ratio` widens the channels inside an interaction."""

    heads: Count = 1
    small: Count = 3
    large: Count = 7
    ratio: Positive = 2.0


class Mixer(nn.Module):
    """Decoupled dual-interactive linear attention, x_BND -> x_BND. `heads` must divide a quarter of the channels."""

    def __init__(self, tokens: Tokens, settings: Settings) -> None:
        super().__init__()
        self.heads, self.group = settings.heads, tokens.dim // 4
        parts.must(self.group >= 1, f"{tokens.dim} channels cannot be split in four; give 4 or more")
        parts.must(
            self.group % self.heads == 0,
            f"{self.heads} heads do not divide {self.group} channels, a quarter of {tokens.dim}",
        )
        self.query = nn.Linear(self.group, self.group)
        self.key = nn.Linear(self.group, self.group)
        self.small = Depthwise(tokens, self.group, settings.small)
        self.large = Depthwise(tokens, self.group, settings.large)
        self.local_to_global = Interaction(tokens, 3 * self.group, settings.ratio)
        self.with_memory = Interaction(tokens, tokens.dim, settings.ratio)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        group = self.group
        memory = x_BND.shape[-1] - 3 * group
        m_BNM, a_BNG = x_BND[..., :memory], x_BND[..., memory : memory + group]
        b_BNG, c_BNG = x_BND[..., -2 * group : -group], x_BND[..., -group:]
        f_BNF = self.local_to_global([self._attend(a_BNG), self.small(b_BNG), self.large(c_BNG)])
        y_BND: Tensor = self.with_memory([m_BNM, f_BNF])
        return y_BND

    def _attend(self, a_BNG: Tensor) -> Tensor:
        q_BNG, k_BNG = functional.elu(self.query(a_BNG)) + 1, functional.elu(self.key(a_BNG)) + 1
        return _linear.attend(q_BNG, k_BNG, a_BNG, self.heads)


class Interaction(nn.Module):
    """Channels meet, then neighbours, then channels, with a skip."""

    def __init__(self, tokens: Tokens, channels: int, ratio: float) -> None:
        super().__init__()
        hidden = parts.hidden(channels, ratio)
        self.norm = nn.LayerNorm(channels)
        self.widen = nn.Linear(channels, hidden)
        self.near = Depthwise(tokens, hidden, 3)
        self.narrow = nn.Linear(hidden, channels)

    def forward(self, groups: list[Tensor]) -> Tensor:
        """u_BNF in groups of its channels -> u_BNF."""
        u_BNF = torch.cat(groups, dim=-1)
        y_BNF: Tensor = self.narrow(self.near(functional.gelu(self.widen(self.norm(u_BNF)))))
        return u_BNF + y_BNF
