"""PReLU as two rectifiers, where what it reads is not a picture.

    before   x ─ prelu(w) ─ y                after   x ─ relu ─ (−) ─ y,    x ─ (−·) ─ relu ─ (· w) ─ ┘

XNNPACK's and coremltools' own take [N, C, H, W] alone: executorch 1.5.1 refuses others ("non-NHWC compatible node"),
and coremltools 9.0 refuses [N, C].
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.fx import Node

from edgepass.exporters._canonical._constants import Constants

PICTURE = 4


def formula(node: Node, constants: Constants) -> Callable[..., Tensor] | None:
    """The rectifiers, unless a picture is read."""
    if node.target != torch.ops.aten.prelu.default:
        return None
    return None if node.all_input_nodes[0].meta["val"].dim() == PICTURE else prelu


def prelu(x: Tensor, weight: Tensor) -> Tensor:
    """max(0, x) + w min(0, x) with w for each channel, the second dimension (He et al. 2015, arXiv:1502.01852)."""
    slope = weight.reshape(-1, *(1 for _ in x.shape[2:])) if x.dim() > 1 else weight.reshape(())
    return torch.relu(x) - slope * torch.relu(-x)
