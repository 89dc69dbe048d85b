"""A linear layer of rows: all dimensions but the last as one.

    before   x [..., K] ─ linear ─ y [..., N]        after   x ─ [rows, K] ─ linear ─ [rows, N] ─ y [..., N]

ONNX has such a layer as one Gemm that reads its weight as torch lays it out, any other as Transpose and MatMul.
onnxruntime 1.31 puts MatMulNBits in the place of a MatMul with an int8 weight, which rounds the activations to int8 as
they arrive (microsoft/onnxruntime, pull request 27769): noise 2.6 times that of the weights in a model whose recipe
leaves activations in float32. A Gemm of a transposed weight it leaves as it is.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from edgepass.rewrites import LEFT_ALONE


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    """As torch.nn.functional.linear; left alone where x is rows already."""
    if x.dim() == 2:
        return LEFT_ALONE
    rows = functional.linear(x.reshape(-1, x.shape[-1]), weight, bias)
    return rows.reshape(*x.shape[:-1], weight.shape[0])


TABLE = {torch.ops.aten.linear.default: linear}
