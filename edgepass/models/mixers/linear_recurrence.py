"""Retention: a matrix of what keys wrote for which value, which fades at a fixed rate of each head and queries read.

    S_n = gamma S_(n-1) + k_n^T v_n,    o_n = q_n S_n,    gamma = 1 - 1 / (memory 2^h) for head h = 0, 1 ...
    y = W_o (silu(W_g x) * norm(o)),    norm for each head

The whole window is (Q K^T * F) V with F_nm = gamma^(n-m), 0 above the diagonal, inside chunks of 32 tokens; the states
before the chunks are carried from one to the next by doubling, each round a product with a constant. F multiplies the
scores, so no mask value stretches their range. The paper turns queries and keys by their position besides; here an
encoding may.

Shapes: B batch, N tokens, D channels, H heads, E = D / H, L tokens of a chunk, C chunks, R = B * C; S is [B, H, E, E],
q, k and v [B, H, 1, E] for a token, Q, K and V [R, H, L, E] for a chunk, F [H, L, L].
Source: Sun et al., "Retentive Network: A Successor to Transformer for Large Language Models", 2023.
"""

from typing import Annotated

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepass.models import parts
from edgepass.models.parts import Count, Tokens

GRADE = 1
CHUNK = 32


class Settings(parts.Settings, frozen=True):
    """`memory` is the mean age, in tokens, of what the first head holds; each further head's is twice the last's."""

    heads: Count = 4
    memory: Annotated[float, msgspec.Meta(ge=1, le=1e6)] = 32.0


class Mixer(nn.Module):
    """Causal: x_BND -> x_BND, or x_BD one token at a time with S_BHEE. `heads` must divide the channels."""

    fade_HLL: Tensor
    age_HL1: Tensor
    left_HL1: Tensor
    decay_H11: Tensor

    def __init__(self, tokens: Tokens, settings: Settings) -> None:
        super().__init__()
        dim, self.count, self.heads = tokens.dim, tokens.count, settings.heads
        self.width = parts.head_dim(dim, self.heads)
        self.length = min(CHUNK, self.count)
        self.chunks = -(-self.count // self.length)
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        with torch.no_grad():
            self.key.weight.mul_(self.width**-0.5)  # the scale that scores start with, at no cost later
        self.value = nn.Linear(dim, dim, bias=False)
        self.gate = nn.Linear(dim, dim, bias=False)
        self.norm = nn.LayerNorm(self.width, elementwise_affine=False)
        self.out = nn.Linear(dim, dim, bias=False)
        decay_H11 = 1 - 1 / (settings.memory * 2.0 ** torch.arange(self.heads, dtype=torch.float64)[:, None, None])
        n_L1 = torch.arange(self.length, dtype=torch.float64)[:, None]
        gap_LL = n_L1 - n_L1.T
        fade_HLL = torch.where(gap_LL < 0, 0.0, decay_H11 ** gap_LL.clamp(min=0))
        for name, constant in (
            ("fade_HLL", fade_HLL),
            ("age_HL1", decay_H11 ** (n_L1 + 1)),
            ("left_HL1", decay_H11 ** (self.length - 1 - n_L1)),
            ("decay_H11", decay_H11),
            *((f"carry_{k}", decay_H11 ** (self.length * 2**k)) for k in range(self._rounds)),
        ):
            self.register_buffer(name, constant.to(torch.get_default_dtype()), persistent=False)

    @property
    def _rounds(self) -> int:
        return max(self.chunks - 2, 0).bit_length()

    def forward(self, x_BND: Tensor) -> Tensor:
        """Each token reads what all tokens up to it have written."""
        short = self.chunks * self.length - self.count
        z_BND = functional.pad(x_BND, (0, 0, 0, short)) if short else x_BND
        q_RHLE, k_RHLE, v_RHLE = self._heads(z_BND, self.length)
        o_RHLE = product(product(q_RHLE, k_RHLE.transpose(2, 3)) * self.fade_HLL, v_RHLE)
        if self.chunks > 1:
            before_RHEE = self._states(product((k_RHLE * self.left_HL1).transpose(2, 3), v_RHLE))
            o_RHLE = o_RHLE + product(q_RHLE * self.age_HL1, before_RHEE)
        o_BNHE = o_RHLE.transpose(1, 2).reshape(-1, self.chunks * self.length, self.heads, self.width)
        return self._gated(x_BND, self.norm(o_BNHE[:, : self.count]))

    def start(self, batch: int) -> tuple[Tensor, ...]:
        """Nothing written: S_BHEE of zeros."""
        return (self.decay_H11.new_zeros(batch, self.heads, self.width, self.width),)

    def step(self, x_BD: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """x_BD, S_BHEE -> y_BD and the next S_BHEE."""
        x_B1D = x_BD.reshape(-1, 1, self.heads * self.width)
        q_BH1E, k_BH1E, v_BH1E = self._heads(x_B1D, 1)
        s_BHEE = self.decay_H11 * state[0] + k_BH1E.transpose(2, 3) * v_BH1E
        y_B1D = self._gated(x_B1D, self.norm(product(q_BH1E, s_BHEE).transpose(1, 2)))
        return y_B1D.reshape(x_BD.shape), s_BHEE

    def _heads(self, x_BND: Tensor, length: int) -> tuple[Tensor, ...]:
        """Queries, keys and values in chunks of `length`, [R, H, L, E]."""
        q_BND, k_BND, v_BND = self.query(x_BND), self.key(x_BND), self.value(x_BND)
        return tuple(
            y_BND.reshape(-1, length, self.heads, self.width).transpose(1, 2) for y_BND in (q_BND, k_BND, v_BND)
        )

    def _states(self, s_RHEE: Tensor) -> Tensor:
        """From what each chunk writes to what is left, before each chunk, of all chunks before it."""
        size = self.width * self.width
        # What chunks before the last leave behind: nobody reads after the last.
        s_BCHX = s_RHEE.reshape(-1, self.chunks, self.heads, size)[:, :-1]
        for k in range(self._rounds):
            older_BCHX = s_BCHX[:, : -(2**k)] * self.get_buffer(f"carry_{k}").reshape(self.heads, 1)
            s_BCHX = s_BCHX + functional.pad(older_BCHX, (0, 0, 0, 0, 2**k, 0))
        before_BCHX = functional.pad(s_BCHX, (0, 0, 0, 0, 1, 0))
        return before_BCHX.reshape(-1, self.heads, self.width, self.width)

    def _gated(self, x_BND: Tensor, o_BNHE: Tensor) -> Tensor:
        y_BND: Tensor = self.out(functional.silu(self.gate(x_BND)) * o_BNHE.reshape(x_BND.shape))
        return y_BND


def product(x: Tensor, y: Tensor) -> Tensor:
    """[R, H, I, J] times [R, H, J, K] -> [R, H, I, K]; torch's own `@` would expand both first, outside a delegate."""
    heads, rows = x.shape[1:3]
    z = torch.bmm(x.reshape(-1, *x.shape[2:]), y.reshape(-1, *y.shape[2:]))
    return z.reshape(-1, heads, rows, y.shape[3])
