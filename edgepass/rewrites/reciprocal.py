"""One over x as a division.

    before   x ─ reciprocal ─ y              after   1, x ─ div ─ y

coremltools 9.0 makes 1 / (x + 0.0001) of the operation: `1 / x` of 0.001 is 909.
"""

import torch
from torch import Tensor

from edgepass.rewrites import constant


def reciprocal(x: Tensor) -> Tensor:
    """1 / x, as torch.reciprocal; of integers too, as a float."""
    x = x if x.is_floating_point() else x.float()
    return constant(1.0, x) / x


TABLE = {torch.ops.aten.reciprocal.default: reciprocal}
