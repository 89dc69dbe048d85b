"""Tables that a model computes from its parameters, as constants in what is exported.

A position table or a filter that a small network generates depends on no input, yet torch.export would write all the
work that generates it into the graph: sines, embeddings, a loop. `Baked(generator)` calls its generator wherever the
model runs in torch, and is the table itself in an exported graph, so that no target ever meets the generator:

    self.position = Baked(Generator(...))        a module without inputs that gives one tensor
    y_BND = x_BND + self.position()

The table is computed anew by `eval()` and by `load_state_dict()`; it is no part of the state. Who changes parameters
of a model that is already in evaluation mode calls `eval()` once more before exporting, as edgepass's own export does.
"""

from typing import Any

import torch
from torch import Tensor, nn


class Baked(nn.Module):
    """What `generator()` gives: computed in torch, with its gradients; a constant once exported."""

    table: Tensor

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator
        self.register_buffer("table", self._baked(), persistent=False)
        self.register_load_state_dict_post_hook(_bake_again)  # type: ignore[no-untyped-call]

    def forward(self) -> Tensor:
        """The table."""
        if torch.compiler.is_exporting() and not self.training:
            return self.table
        table: Tensor = self.generator()
        return table

    def train(self, mode: bool = True) -> "Baked":
        """As nn.Module.train; leaving training bakes."""
        super().train(mode)
        if not mode:
            self.table = self._baked()
        return self

    def _baked(self) -> Tensor:
        # A tensor made in inference mode could never again take part in training.
        with torch.inference_mode(False), torch.no_grad():
            table: Tensor = self.generator()
            return table.detach().clone()


def _bake_again(module: nn.Module, _: Any) -> None:
    if not module.training:
        module.eval()
