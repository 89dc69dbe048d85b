"""A fixed linear memory that holds the last `theta` tokens as a polynomial of their time, read by a learned map.

    u_n = relu(W_u x_n + b_u),    m_n = A m_(n-1) + B u_n,    y_n = relu(W_m m_n + W_x x_n + b)

A and B are the Legendre delay's, theta dm/dt = A' m + B' u, held over one token: A = exp(A' / theta) and B is
A'^-1 (A - I) B'. Every signal u has a memory m of its own. The whole window is a product with a constant table inside
chunks of 8 tokens, from the signals in the chunk and the memory before it; memories are carried from chunk to chunk by
doubling: after k rounds one holds 2^k chunks. That is 2 S M (8 + M) + S M^2 log2(N / 8) / 4 operations a token, where
one Toeplitz product costs 2 S M N.

Shapes: B batch, N tokens, D channels, S signals, M order, L tokens of a chunk, X = L * M, C chunks, R = B * S rows; u
is [B, N, S], m [B, N, S, M], A [M, M], B [M].
Source: Voelker et al., "Legendre Memory Units: Continuous-Time Representation in Recurrent Neural Networks", 2019; as
in Liu et al., "LMUFormer: Low Complexity Yet Powerful Spiking Model With Legendre Memory Units", 2024.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepass.models import parts
from edgepass.models.parts import Count, Positive, Tokens

GRADE = 1
CHUNK = 8


class Settings(parts.Settings, frozen=True):
    """`order` values of memory for each of `signals`, over a window of `theta` tokens; LMUFormer has one signal."""

    order: Count = 16
    theta: Positive = 24.0
    signals: Count = 4


class Mixer(nn.Module):
    """Causal: x_BND -> x_BND, or x_BD one token at a time with the memory m_BSM."""

    b_1M: Tensor
    a_MM: Tensor
    within_LX: Tensor
    after_LM: Tensor
    through_MX: Tensor

    def __init__(self, tokens: Tokens, settings: Settings) -> None:
        super().__init__()
        dim = tokens.dim
        self.count, self.order, self.signals = tokens.count, settings.order, settings.signals
        self.length = min(CHUNK, tokens.count)
        self.chunks = -(-tokens.count // self.length)
        self.signal = nn.Linear(dim, self.signals)
        self.recall = nn.Linear(self.signals * self.order, dim, bias=False)
        self.out = nn.Linear(dim, dim)
        a_MM, b_M = held(*delay(self.order), settings.theta)
        within_LX, through_MX = responses(a_MM, b_M, self.length)
        carry_MM = through_MX[:, -self.order :]
        for name, constant in (
            ("b_1M", b_M[None]),
            ("a_MM", a_MM.T),
            ("within_LX", within_LX),
            ("after_LM", within_LX[:, -self.order :]),
            ("through_MX", through_MX),
            *((f"carry_{k}", torch.linalg.matrix_power(carry_MM, 2**k)) for k in range(self._rounds)),
        ):
            self.register_buffer(name, constant.to(torch.get_default_dtype()).contiguous(), persistent=False)

    @property
    def _rounds(self) -> int:
        return max(self.chunks - 2, 0).bit_length()

    def forward(self, x_BND: Tensor) -> Tensor:
        """Each token is given what the memory holds when it has come."""
        u_BNS = functional.relu(self.signal(x_BND))
        short = self.chunks * self.length - self.count
        u_RN = u_BNS.transpose(1, 2).reshape(-1, self.count)
        u_RCL = (functional.pad(u_RN, (0, short)) if short else u_RN).reshape(-1, self.chunks, self.length)
        m_BSNM = self._memories(u_RCL).reshape(-1, self.signals, self.chunks * self.length, self.order)
        m_BNSM = m_BSNM[:, :, : self.count].transpose(1, 2)
        return self._read(x_BND, m_BNSM.reshape(-1, self.count, self.signals * self.order))

    def start(self, batch: int) -> tuple[Tensor, ...]:
        """An empty memory m_BSM."""
        return (self.b_1M.new_zeros(batch, self.signals, self.order),)

    def step(self, x_BD: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """x_BD, m_BSM -> y_BD and the next m_BSM."""
        u_BS1 = functional.relu(self.signal(x_BD)).reshape(-1, self.signals, 1)
        m_BSM = product(state[0], self.a_MM) + u_BS1 * self.b_1M
        return self._read(x_BD, m_BSM.reshape(-1, self.signals * self.order)), m_BSM

    def _memories(self, u_RCL: Tensor) -> Tensor:
        """The memory at every token, side by side in its chunk, [R, C, X]."""
        m_RCX = product(u_RCL, self.within_LX)
        if self.chunks == 1:
            return m_RCX
        # What each chunk adds to the memory after it, then what all chunks up to it add; nobody reads after the last.
        m_RCM = product(u_RCL[:, :-1], self.after_LM)
        for k in range(self._rounds):
            older_RCM = product(m_RCM[:, : -(2**k)], self.get_buffer(f"carry_{k}"))
            m_RCM = m_RCM + functional.pad(older_RCM, (0, 0, 2**k, 0))
        return m_RCX + product(functional.pad(m_RCM, (0, 0, 1, 0)), self.through_MX)

    def _read(self, x: Tensor, m: Tensor) -> Tensor:
        return functional.relu(self.recall(m) + self.out(x))


def delay(order: int) -> tuple[Tensor, Tensor]:
    """A'_MM and B'_M of the Legendre delay, float64; theta dm/dt = A' m + B' u (Voelker et al. 2019, eq. 2)."""
    i_M = torch.arange(order, dtype=torch.float64)
    gap_MM = i_M[:, None] - i_M
    sign_MM = torch.where(gap_MM < 0, -1.0, 1 - 2 * ((gap_MM + 1) % 2))
    width_M = 2 * i_M + 1
    return width_M[:, None] * sign_MM, width_M * (1 - 2 * (i_M % 2))


def held(a_MM: Tensor, b_M: Tensor, theta: float) -> tuple[Tensor, Tensor]:
    """A_MM and B_M of one token, during which u stands still: both are blocks of one matrix exponential."""
    order = len(b_M)
    joint = torch.zeros(order + 1, order + 1, dtype=torch.float64)
    joint[:order, :order], joint[:order, order] = a_MM / theta, b_M / theta
    joint = torch.linalg.matrix_exp(joint)
    return joint[:order, :order], joint[:order, order]


def responses(a_MM: Tensor, b_M: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """From the signals of a chunk, [L, X], and from the memory before it, [M, X], to its memories, as row vectors."""
    impulse, powers = [b_M], [a_MM]
    for _ in range(length - 1):
        impulse.append(a_MM @ impulse[-1])
        powers.append(a_MM @ powers[-1])
    within_LLM = torch.zeros(length, length, len(b_M), dtype=torch.float64)
    for token in range(length):
        within_LLM[token, token:] = torch.stack(impulse[: length - token])
    return within_LLM.flatten(1), torch.stack(powers).permute(2, 0, 1).flatten(1)


def product(x: Tensor, table: Tensor) -> Tensor:
    """[R, I, J] times [J, K] -> [R, I, K]; torch's own `@` may expand the table first, outside a delegate."""
    return (x.reshape(-1, x.shape[2]) @ table).reshape(-1, x.shape[1], table.shape[1])
