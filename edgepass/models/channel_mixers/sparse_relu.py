"""A feed-forward part with ReLU, whose hidden units that never fire can be taken out.

    y = W2 relu(W1 x + b1) + b2

After training most hidden values are zero, and some units are zero whatever comes. Keeping the k largest of each
token, as the source does, is a choice made by data: a dense delegate would compute all of it and gain nothing. Its
static form is `pruned`: units that stay zero on all calibration data go, which changes nothing on that data.

Shapes: B batch, N tokens, D channels, F = ratio * D hidden; W1 is [F, D], W2 is [D, F].
Source: Li et al., "The Lazy Neuron Phenomenon: On Emergence of Activation Sparsity in Transformers", 2023.
"""

import copy
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.channel_mixers import feed_forward

GRADE = 0


class Settings(feed_forward.Settings, frozen=True):
    """`ratio` is the hidden width as a multiple of the channels."""


class Mixer(feed_forward.Mixer):
    """Linear, ReLU, linear: x_BND -> x_BND."""

    def activated(self, h_BNF: Tensor) -> Tensor:
        """relu(h_BNF)."""
        return torch.relu(h_BNF)

    def keep(self, unit_F: Tensor) -> None:
        """Keep the hidden units where the boolean `unit_F` is true, one at least, and forget the others."""
        kept = unit_F.nonzero().flatten()
        kept = kept if len(kept) else kept.new_zeros(1)
        self.widen = _linear(self.widen.weight[kept], self.widen.bias[kept])
        self.narrow = _linear(self.narrow.weight[:, kept], self.narrow.bias)


def pruned(model: nn.Module, inputs: Iterable[tuple[Tensor, ...]]) -> nn.Module:
    """A copy of `model` without the hidden units of its Mixers that fire for none of `inputs`, argument tuples.

    It gives the same for `inputs`, up to the rounding of sums. For other data it may differ: give data like those to
    come. Raises InputError without inputs.
    """
    smaller = copy.deepcopy(model).eval()
    mixers = [m for m in smaller.modules() if isinstance(m, Mixer)]
    fires = {m: m.widen.bias.new_zeros(m.widen.out_features, dtype=torch.bool) for m in mixers}
    for mixer, fires_F in fires.items():
        mixer.widen.register_forward_hook(partial(_note, fires_F))  # which goes with the layer, in `keep`
    seen = 0
    with torch.no_grad():
        for arguments in inputs:
            smaller(*arguments)
            seen += 1
    parts.must(seen > 0, "there is no calibration data, and without any every unit is silent; give some")
    for mixer, fires_F in fires.items():
        mixer.keep(fires_F)
    return smaller.train(model.training)


def _note(fires_F: Tensor, _: nn.Module, arguments: Any, h_BNF: Tensor) -> None:
    fires_F |= (h_BNF > 0).flatten(0, -2).any(dim=0)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    layer.weight, layer.bias = nn.Parameter(weight.detach().clone()), nn.Parameter(bias.detach().clone())
    return layer
