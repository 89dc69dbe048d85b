"""A bilinear layer as a linear one and a sum of products.

    before   a, b ─ bilinear(W) ─ y
    after    a ─ linear(W as [out · right, left]) ─ [..., out, right] ─ (· b) ─ sum ─ y

ExecuTorch 1.5.1 and coremltools 9.0 do not know it, and no quantiser its weight.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.fx import Node
from torch.nn import functional

from edgepass.exporters._canonical._constants import Constants


def formula(node: Node, constants: Constants) -> Callable[..., Tensor] | None:
    """The two, of any bilinear layer."""
    return bilinear if node.target == torch.ops.aten.bilinear.default else None


def bilinear(a: Tensor, b: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """aᵀ W b of a [..., left], b [..., right], W [out, left, right], as torch.nn.functional.bilinear."""
    out, left, right = weight.shape
    rows = functional.linear(a, weight.transpose(1, 2).reshape(out * right, left))
    y = (rows.reshape(*a.shape[:-1], out, right) * b.unsqueeze(-2)).sum(-1)
    return y if bias is None else y + bias
