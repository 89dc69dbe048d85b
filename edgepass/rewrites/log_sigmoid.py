"""The logarithm of a sigmoid by softplus.

    before   x ─ log_sigmoid ─ y             after   x ─ (−·) ─ softplus ─ (−·) ─ y

torch's own form has an empty buffer as its second output, of which coremltools 9.0 cannot make anything.
"""

import torch
from torch import Tensor
from torch.nn import functional


def log_sigmoid(x: Tensor) -> Tensor:
    """log(1 / (1 + exp(−x))), as torch.nn.functional.logsigmoid."""
    return -functional.softplus(-x)


TABLE = {torch.ops.aten.log_sigmoid.default: log_sigmoid}
