"""A batch norm in training, by the statistics of its batch.

    before   x ─ batch_norm(training) ─ y            after   x ─ mean, var of channels ─ (x - mean) / sqrt(var) ─ y

onnxruntime 1.31 computes one in training otherwise.
"""

from typing import Any

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE, Table, batch_statistics

aten = torch.ops.aten


def of_the_batch(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Any:
    """As torch.native_batch_norm in training, but for the running statistics."""
    return batch_statistics.of_the_batch(x, weight, bias, training, momentum, eps) if training else LEFT_ALONE


def with_running(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    training: bool,
    momentum: float,
    eps: float,
) -> Any:
    """The same, and the running statistics behind it."""
    if not training:
        return LEFT_ALONE
    dims = [d for d in range(x.dim()) if d != 1]
    running = momentum * x.mean(dims) + (1 - momentum) * mean, momentum * x.var(dims) + (1 - momentum) * var
    return *batch_statistics.of_the_batch(x, weight, bias, training, momentum, eps), *running


def alone(*given: Any) -> Any:
    """The first of these, as torch.batch_norm."""
    found = of_the_batch(*given[:8])
    return found if found is LEFT_ALONE else found[0]


TABLE: Table = {
    aten.batch_norm.default: alone,
    aten.native_batch_norm.default: of_the_batch,
    aten._native_batch_norm_legit.default: of_the_batch,
    aten._native_batch_norm_legit_functional.default: with_running,
}
