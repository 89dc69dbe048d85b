"""Pools over a single picture [C, H, W] as over a batch of one.

    before   x ─ max_pool2d ─ y         after   x ─ unsqueeze ─ max_pool2d ─ squeeze ─ y

XNNPACK's partitioner takes such a pool and its passes do not: "Attempting to convert non-NHWC compatible node to NHWC"
(executorch 1.5.1).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from edgepass.rewrites import LEFT_ALONE, Table

aten = torch.ops.aten
BATCH = 4
"""Dimensions of pictures in a batch."""


def batched(pool: OpOverload) -> Callable[..., Any]:
    """`pool`, given one picture, as over a batch of it."""

    def formula(x: Tensor, *settings: Any) -> Any:
        return LEFT_ALONE if x.dim() == BATCH else pool(x.unsqueeze(0), *settings).squeeze(0)

    return formula


TABLE: Table = {pool: batched(pool) for pool in (aten.max_pool2d.default, aten.avg_pool2d.default)}
