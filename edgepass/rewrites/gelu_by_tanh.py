"""GELU's other form, by tanh, written out where a converter drops the word for it.

    before   x ─ gelu(tanh) ─ y      after   x ─ cube ─ · a ─ + x ─ · c ─ tanh ─ + 1 ─ · 1/2 ─ · x ─ y

coremltools 9.0 reads what is called by name (`approximate="tanh"`) of no GELU, and gives the exact one: 80 dB. Its own
pass fuse_gelu_tanh_approximation makes one operation of these, in this order.
"""

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE
from edgepass.rewrites.gelu import A, C


def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """x (1 + tanh(c (x + a x³))) / 2, where that is asked for (Hendrycks, Gimpel 2016, arXiv:1606.08415, section 2)."""
    if approximate != "tanh":
        return LEFT_ALONE
    return 0.5 * (1.0 + torch.tanh(C * (x + A * x**3.0))) * x


TABLE = {torch.ops.aten.gelu.default: gelu}
