"""A softplus that is the number itself above its threshold, where that shows.

before   x ─ softplus(beta, low threshold) ─ y       after   x ─ softplus(beta) ─ where(beta · x > threshold, x, ·) ─ y

coremltools 9.0 reads no threshold.
"""

import torch
from torch import Tensor
from torch.nn import functional

from edgepass.rewrites import LEFT_ALONE, Table
from edgepass.rewrites.activations import UNSEEN


def softplus(x: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """log(1 + exp(beta · x)) / beta, or x where beta · x > threshold, as torch.nn.functional.softplus."""
    if threshold >= UNSEEN:
        return LEFT_ALONE
    return torch.where(x * beta > threshold, x, functional.softplus(x, beta))


TABLE: Table = {torch.ops.aten.softplus.default: softplus}
