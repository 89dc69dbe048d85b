"""Single numbers in buffers, known while a model is captured: what they decide is decided then.

    before   self.stride, a buffer ─ ceil(length / stride) ─ how much is padded      not captured
    after    3                     ─ ceil(length / 3)      ─ 2

torch.export (2.13) takes a buffer for one of any value, and stops where a size or a branch depends on it (EnCodec's
paddings); a tensor that forward makes of a number is known by its number. The files are of the numbers of this model.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from edgepass.state import restored

Numbers = dict[nn.Module, dict[str, Tensor]]


@contextmanager
def known(model: nn.Module, args: tuple[Tensor, ...]) -> Iterator[bool]:
    """Whether `model` has any that a call leaves as they are; until the end each is a new tensor whenever it is read.

    To assign to one is an AttributeError then.
    """
    found = _constant(model, args)
    kinds = {module: type(module) for module in found}
    buffers = {module: dict(module._buffers) for module in found}
    try:
        for module, numbers in found.items():
            for name in numbers:
                del module._buffers[name]
            module.__class__ = _reading(kinds[module], numbers)
        yield bool(found)
    finally:
        for module, kind in kinds.items():
            module.__class__ = kind
            module._buffers = buffers[module]


def _constant(model: nn.Module, args: tuple[Tensor, ...]) -> Numbers:
    """The single numbers that a call of the model leaves as they are."""
    held = [
        (module, name, number, number.clone())
        for module in model.modules()
        for name, number in module._buffers.items()
        if number is not None and number.numel() == 1
    ]
    found: Numbers = {}
    with torch.no_grad(), restored(model):
        model(*args)
        for module, name, number, before in held:
            if module._buffers[name] is number and torch.equal(number, before):
                found.setdefault(module, {})[name] = number
    return found


def _reading(kind: type[nn.Module], numbers: dict[str, Tensor]) -> type[nn.Module]:
    """The class with a property for each number."""

    def read(number: Tensor) -> property:
        value, dtype, shape = number.item(), number.dtype, number.shape
        return property(lambda self: torch.tensor(value, dtype=dtype).reshape(shape))

    members: dict[str, Any] = {name: read(number) for name, number in numbers.items()}
    return type(kind.__name__, (kind,), members | {"__module__": kind.__module__, "__qualname__": kind.__qualname__})
