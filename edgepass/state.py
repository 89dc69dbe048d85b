"""State: what a model keeps from call to call in its buffers, taken as arguments and given as results.

So the model in torch is called as its files are, which hold none (exporters/_state.py): state in, state out. Whoever
runs either begins with the initial values and feeds each call with the last results of the one before.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from edgepass import structure


class Explicit(nn.Module):
    """`model` with the values of its buffers `names` as its last arguments, and what they become as its last results.

    A buffer that is a single number is a row of one.
    """

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.names = tuple(names)

    def train(self, mode: bool = True) -> "Explicit":
        """Nothing: the model is as it is to be, and a captured one knows no other mode."""
        return self

    def forward(self, *arguments: Tensor) -> tuple[Tensor, ...]:
        """The model's tensors in a row, then the state; copies all, for the next call may write to what this gives."""
        own = arguments[: len(arguments) - len(self.names)]
        for name, value in zip(self.names, arguments[len(own) :], strict=True):
            buffer = self.model.get_buffer(name)
            buffer.copy_(value.reshape(buffer.shape))
        outputs: Any = self.model(*own)
        given = [leaf for _, leaf in structure.leaves(outputs) if isinstance(leaf, Tensor)]
        kept = [self.model.get_buffer(name) for name in self.names]
        return tuple(y.clone() for y in (*given, *(b if b.dim() else b.reshape(1) for b in kept)))


@contextmanager
def restored(module: nn.Module) -> Iterator[None]:
    """Leave the buffers of `module` as they were, whatever its calls make of them."""
    before = [(owner, dict(owner._buffers)) for owner in module.modules()]
    values = {id(b): b.detach().clone() for _, buffers in before for b in buffers.values() if b is not None}
    try:
        yield
    finally:
        for owner, buffers in before:
            owner._buffers.update(buffers)
            for buffer in buffers.values():
                if buffer is not None and not torch.equal(buffer, values[id(buffer)]):
                    with torch.no_grad():
                        buffer.copy_(values[id(buffer)])
