"""GELU's other form, by tanh, where a converter makes GELU of either.

    before   x ─ gelu(tanh) ─ y      after   x ─ square ─ · 2 c a ─ + 2 c ─ · x ─ sigmoid ─ · x ─ y

executorch 1.5.1's XNNPACK has GELU alone and takes the other for it without a word: 80 dB, and 75 behind Gemma's two
layers. x sigmoid(2 u) is x (1 + tanh u) / 2, and keeps what is small of it: 1 + tanh(u) of -u has lost it. Nothing
here is wrong where x² overflows in float16: sigmoid is 0 or 1 by then.
"""

import math

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE, constant

C, A = math.sqrt(2 / math.pi), 0.044715


def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """x (1 + tanh(c (x + a x³))) / 2, where that is asked for (Hendrycks, Gimpel 2016, arXiv:1606.08415, section 2)."""
    if approximate != "tanh":
        return LEFT_ALONE
    return x * torch.sigmoid(x * (x * x * constant(2 * C * A, x) + constant(2 * C, x)))


TABLE = {torch.ops.aten.gelu.default: gelu}
