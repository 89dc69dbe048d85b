"""Attention inside windows of neighbouring tokens, the formula that attention mixers and kernels share.

    Y = softmax(Q K^T / sqrt(E)) V    for each head, over the tokens of one window

Where windows do not divide the tokens, the last, shorter one is attended on its own. That needs neither padding nor a
mask: a mask value large enough to silence a token would also stretch the int8 range of the scores until nothing is left
of them.

Shapes: B batch, H heads, N tokens, E width of a head, W window, K windows.
"""

import torch
from torch import Tensor
from torch.nn import functional

MASKED = -1e4
"""Added to the score of a later token. exp(-1e4) is 0 in float32 and float16, and -inf less -inf would be NaN."""


def attend(q_BHNE: Tensor, k_BHNE: Tensor, v_BHNE: Tensor, window: int, *, causal: bool = False) -> Tensor:
    """Each token's mixture of the tokens of its own window, y_BHNE; with `causal`, of those not after it."""
    tokens = q_BHNE.shape[2]
    whole = tokens - tokens % window
    windows = []
    if whole:
        windows.append(_attend(q_BHNE, k_BHNE, v_BHNE, slice(0, whole), window, causal))
    if whole < tokens:
        windows.append(_attend(q_BHNE, k_BHNE, v_BHNE, slice(whole, tokens), tokens - whole, causal))
    return windows[0] if len(windows) == 1 else torch.cat(windows, dim=2)


def _attend(q_BHNE: Tensor, k_BHNE: Tensor, v_BHNE: Tensor, part: slice, window: int, causal: bool) -> Tensor:
    """Attention over the tokens of `part` in windows of a size that divides their number."""
    heads, tokens, width = q_BHNE.shape[1:]
    count = part.stop - part.start
    later_WW = None
    if causal:
        later_WW = torch.full((window, window), MASKED, dtype=q_BHNE.dtype, device=q_BHNE.device).triu(1)
    if window == count == tokens:
        return functional.scaled_dot_product_attention(q_BHNE, k_BHNE, v_BHNE, attn_mask=later_WW)

    def cut(x_BHNE: Tensor) -> Tensor:
        # Batch and heads share a dimension, so that no tensor has more than four.
        return x_BHNE[:, :, part].reshape(-1, count // window, window, width)

    y_BKWE = functional.scaled_dot_product_attention(cut(q_BHNE), cut(k_BHNE), cut(v_BHNE), attn_mask=later_WW)
    return y_BKWE.reshape(-1, heads, count, width)
