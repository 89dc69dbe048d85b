"""A pad by nothing as what it pads.

    before   x ─ pad(0, 0) ─ y               after   x ─ y

Swin and ConvNeXt pad to whole windows, which at most sizes is by nothing: a copy in every file, and between a norm and
the layer that it is folded into.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from edgepass.exporters._canonical._constants import Constants

ATEN = torch.ops.aten
PADS = {ATEN.pad.default, ATEN.constant_pad_nd.default}


def formula(node: Node, constants: Constants) -> Callable[..., Tensor] | None:
    """What it pads, unless the one is changed and the other should not be."""
    if node.target not in PADS or not constants.changed.isdisjoint((node, *node.all_input_nodes)):
        return None
    widths: Any = node.args[1]
    return None if any(isinstance(width, Node) or width for width in widths) else padded


def padded(x: Tensor, *settings: Any) -> Tensor:
    """x."""
    return x
