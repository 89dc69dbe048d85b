"""ELU and softplus in operations that the XNNPACK delegates have.

    before   x ─ elu ─ y              after   x ─ relu ─ (+) ─ y,    x ─ negate ─ relu ─ tanh ─ t ─ -2 t / (1 + t) ─ ┘
    before   x ─ softplus ─ y         after   x ─ relu ─ (+) ─ y,    x ─ abs ─ negate ─ exp ─ f ─ log(1 + f) ─ ┘

Both leave the delegate as they are: executorch 1.5.1 chooses between the two sides with a comparison, litert-torch 0.10
with GREATER and SELECT. Nothing here can overflow in float16. exp(-u) - 1 keeps little of a small u, so it is
-2 t / (1 + t) of t = tanh(u / 2), which keeps all. log(1 + f) is a series, because 1 + f keeps little of a small f in
float16: the logarithm of it had 29 dB where a state needed 60. Gradients at zero differ from the operation's own; a
program that is exported needs none.
"""

import torch
from torch import Tensor

from edgepass.rewrites import constant

UNSEEN = 17
"""From there on log1p(exp(-x)) is less than float32 tells."""


def elu(x: Tensor, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Tensor:
    """scale x where x > 0, else scale alpha (exp(input_scale x) - 1) (Clevert et al. 2016, arXiv:1511.07289)."""
    t = torch.tanh(torch.relu(-x) * constant(input_scale / 2, x))
    below = t * constant(-2.0, x) / (t + constant(1.0, x))
    y = torch.relu(x) + (below * constant(alpha, x) if alpha != 1 else below)
    return y * constant(scale, x) if scale != 1 else y


def softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta x)) / beta (Dugas et al. 2001), or x where beta x > threshold, which shows where that is low.

    log(1 + f) = 2 atanh(f / (2 + f)), of which seven terms are right to 2^-26 where f is 1, its largest.
    """
    u = x * constant(beta, x) if beta != 1 else x
    f = torch.exp(-u.abs())
    t = f / (f + constant(2.0, x))
    square = t * t
    series = constant(2 / 13, x)
    for power in (11, 9, 7, 5, 3, 1):
        series = series * square + constant(2 / power, x)
    more = t * series
    if threshold < UNSEEN:
        more = more * (u <= threshold).to(x.dtype)
    y = (torch.relu(u) if threshold >= 0 else torch.where(u > threshold, u, torch.relu(u))) + more
    return y * constant(1 / beta, x) if beta != 1 else y


TABLE = {torch.ops.aten.elu.default: elu, torch.ops.aten.softplus.default: softplus}
