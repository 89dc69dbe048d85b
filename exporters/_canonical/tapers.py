"""The window of a short-time transform as its numbers.

    before   hann_window(400) ─ y            after   a constant [400]

coremltools 9.0 asks for it with other arguments than torch.export has ("got 1 input(s), expected [5, 6]").
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch._ops import OpOverload
from torch.fx import Node

from edgepass.exporters._canonical._constants import Constants

TAPERS = frozenset(f"aten::{name}_window" for name in ("bartlett", "blackman", "hamming", "hann", "kaiser"))


def formula(node: Node, constants: Constants) -> Callable[..., Tensor] | None:
    """The numbers, of any window that torch has by name."""
    if not isinstance(node.target, OpOverload) or node.target._schema.name not in TAPERS:
        return None
    numbers: Tensor = constants.value(node)

    def constant(*arguments: Any, **how: Any) -> Tensor:
        return numbers

    return constant
