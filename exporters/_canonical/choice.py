"""A branch that a value decides as both branches, and a choice between what they give.

    before   p, x ─ cond(f, g) ─ y           after   x ─┬─ f ─┬─ where(p, ·, ·) ─ y
                                                        └─ g ─┘

What torch.cond takes changes nothing and gives tensors of one shape either way, so y is the same; what the other
branch makes, be it no number, is not read. TFLite's converter knows no branches, those of ExecuTorch and Core ML fail
where there are several, and no quantiser looks into one, so that its layers would stay float in every int8 file.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node
from torch.utils import _pytree as pytree

from edgepass.exporters._canonical._constants import Constants

Branch = Callable[..., Any]


def formula(node: Node, constants: Constants) -> Callable[..., Any] | None:
    """What computes the choice in the place of `node`."""
    return choice if node.target is torch.ops.higher_order.cond else None


def choice(decided: Tensor | bool, one: Branch, other: Branch, given: Sequence[Any] = ()) -> Any:
    """What `one` gives of `given` where `decided` is true, else what `other` does."""
    if isinstance(decided, bool):
        return (one if decided else other)(*given)

    def chosen(a: Any, b: Any) -> Any:
        return torch.where(decided.reshape([1] * a.dim()), a, b) if isinstance(a, Tensor) else a

    return pytree.tree_map(chosen, one(*given), other(*given))
