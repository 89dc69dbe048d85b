"""A copy as it is made by default: waited for, and in the order of its dimensions.

    before   x ─ to(dtype, non_blocking, channels_last) ─ y           after   x ─ to(dtype) ─ y

A file has one device, and lays tensors out as its runtime wants. Kernels of ExecuTorch 1.5.1 refuse a copy that is not
waited for, and tensors of two layouts.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import Node

from edgepass.exporters._canonical._constants import Constants

OTHERWISE: dict[str, tuple[Any, ...]] = {
    "non_blocking": (True,),
    "memory_format": (torch.channels_last, torch.channels_last_3d),
}
"""Arguments that are no matter of values, and what they are of such a copy."""


def formula(node: Node, constants: Constants) -> Callable[..., Tensor] | None:
    """The same operation without them; None where it has none."""
    operation = node.target
    if not isinstance(operation, OpOverload):
        return None
    arguments = operation._schema.arguments
    given = dict(zip((argument.name for argument in arguments), node.args, strict=False)) | node.kwargs
    if not any(given.get(name) in values for name, values in OTHERWISE.items()):
        return None
    plain = {argument.name: argument.default_value for argument in arguments if argument.name in OTHERWISE}
    places = {place: argument.name for place, argument in enumerate(arguments) if argument.name in OTHERWISE}

    def by_default(*args: Any, **kwargs: Any) -> Any:
        args = tuple(plain[places[place]] if place in places else arg for place, arg in enumerate(args))
        return operation(*args, **{name: plain.get(name, value) for name, value in kwargs.items()})

    return by_default
