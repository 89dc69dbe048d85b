"""ELU and softplus in operations that the XNNPACK delegates have.

    before   x ─ elu ─ y              after   x ─ relu ─ (+) ─ y,    x ─ negate ─ relu ─ negate ─ exp ─ (- 1) ─ ┘
    before   x ─ softplus ─ y         after   x ─ relu ─ (-) ─ y,    x ─ abs ─ sigmoid ─ log ─ ┘

Both leave the delegate as they are: executorch 1.5.1 chooses between the two sides with a comparison, litert-torch 0.10
with GREATER and SELECT. No exponential here exceeds 1, so none can overflow in float16. Gradients at zero differ from
the operation's own; a program that is exported needs none.
"""

import torch
from torch import Tensor

from edgepass.rewrites import constant


def elu(x: Tensor, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Tensor:
    """scale x where x > 0, else scale alpha (exp(input_scale x) - 1) (Clevert et al. 2016, arXiv:1511.07289)."""
    fall = torch.relu(-x)
    below = torch.exp(-fall * constant(input_scale, x) if input_scale != 1 else -fall) - constant(1.0, x)
    y = torch.relu(x) + (below * constant(alpha, x) if alpha != 1 else below)
    return y * constant(scale, x) if scale != 1 else y


def softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta x)) / beta, of which `threshold` is but torch's guard against overflow (Dugas et al. 2001)."""
    u = x * constant(beta, x) if beta != 1 else x
    y = torch.relu(u) - torch.log(torch.sigmoid(u.abs()))
    return y * constant(1 / beta, x) if beta != 1 else y


TABLE = {torch.ops.aten.elu.default: elu, torch.ops.aten.softplus.default: softplus}
