"""A convolution that says its padding in a word, as one that says it in numbers.

    before   x ─ conv("same") ─ y            after   x ─ conv(padding n) ─ y            where both sides get n
                                             or      x ─ conv(padding n + 1) ─ slice(1:) ─ y    under an even kernel

Quantisers annotate the operation with numbers only, and executorch 1.5.1 cannot run an even kernel with "same". A pad
of its own would be quantised in other steps than what it pads, which litert-torch refuses where that is used elsewhere.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from edgepass.exporters._canonical._constants import Constants
from edgepass.rewrites import each

ATEN = torch.ops.aten
PLAIN: dict[Any, Callable[..., Tensor]] = {
    ATEN.conv1d.padding: ATEN.conv1d.default,
    ATEN.conv2d.padding: ATEN.conv2d.default,
    ATEN.conv3d.padding: ATEN.conv3d.default,
}


def formula(node: Node, constants: Constants) -> Callable[..., Tensor] | None:
    """The convolution with its padding in numbers."""
    plain = PLAIN.get(node.target)
    return None if plain is None else _numbered(plain)


def _numbered(plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def convolution(
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Sequence[int] = (1,),
        padding: str = "valid",
        dilation: Sequence[int] = (1,),
        groups: int = 1,
    ) -> Tensor:
        kernel = weight.shape[2:]
        strides, steps = (each(n, len(kernel)) for n in (stride, dilation))
        sides = [step * (size - 1) * (padding == "same") for step, size in zip(steps, kernel, strict=True)]
        y = plain(x, weight, bias, strides, [(both + 1) // 2 for both in sides], steps, groups)
        for dim, both in enumerate(reversed(sides), start=1):
            y = y.narrow(-dim, 1, y.shape[-dim] - 1) if both % 2 else y
        return y

    return convolution
