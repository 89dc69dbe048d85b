"""The order of products that makes attention linear in the tokens.

    Y = Q (K^T V / N) / (Q mean(K) + eps)    for each head; no entry of Q and K is negative

Dividing by N first keeps sums over a long sequence inside float16, and cancels in the quotient.

Shapes: B batch, N tokens, D channels, H heads, S = B * H, E = D / H; M keys of F values each.
"""

import torch
from torch import Tensor

EPSILON = 1e-3
"""Added to the divisor, well above the least normal float16 (6e-5): where no key answers a query, the values are
zero, not 0 / 0."""


def attend(q_BND: Tensor, k_BND: Tensor, v_BND: Tensor, heads: int) -> Tensor:
    """Means of the values, weighed by products of queries and keys: y_BND."""
    count, dim = v_BND.shape[1:]
    width = dim // heads
    q_BHNE, k_BHNE, v_BHNE = (x.reshape(-1, count, heads, width).transpose(1, 2) for x in (q_BND, k_BND, v_BND))
    q_SNE, v_SNE = q_BHNE.reshape(-1, count, width), v_BHNE.reshape(-1, count, width)
    k_SEN = k_BHNE.transpose(2, 3).reshape(-1, width, count)
    total_SN1 = torch.bmm(q_SNE, k_SEN.mean(dim=-1, keepdim=True))
    y_SNE = torch.bmm(q_SNE, summary(k_SEN, v_SNE)) / (total_SN1 + EPSILON)
    return y_SNE.reshape(-1, heads, count, width).transpose(1, 2).reshape(-1, count, dim)


def summary(k_SEM: Tensor, v_SMF: Tensor) -> Tensor:
    """K^T V / M: what all tokens leave to any query."""
    return torch.bmm(k_SEM * (1.0 / k_SEM.shape[-1]), v_SMF)
