"""A feed-forward part with a small parallel one beside it, which learns a new task while the rest stays as it is.

    y = W2 gelu(W1 x + b1) + b2 + s (U relu(V x + v) + u)

U and u start at zero, so that the part starts as the plain one. `own` gives what the adapters of a whole model add,
to train them alone and to ship them as a file of their own; `put` puts such a file into a model.

Shapes: B batch, N tokens, D channels, F = ratio * D hidden, K bottleneck; V is [K, D], U is [D, K], s a number.
Source: Chen et al., "AdaptFormer: Adapting Vision Transformers for Scalable Visual Recognition", 2022.
"""

import torch
from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.channel_mixers import feed_forward
from edgepass.models.parts import Count, Positive, Tokens

GRADE = 0


class Settings(parts.Settings, frozen=True):
    """`bottleneck` is in channels; `scale` is s."""

    ratio: Positive = 2.0
    bottleneck: Count = 8
    scale: Positive = 0.1


class Mixer(nn.Module):
    """Feed-forward and bottleneck side by side: x_BND -> x_BND."""

    def __init__(self, tokens: Tokens, settings: Settings) -> None:
        super().__init__()
        width = min(settings.bottleneck, tokens.dim)
        self.scale = settings.scale
        self.plain = feed_forward.Mixer(tokens, feed_forward.Settings(ratio=settings.ratio))
        self.down = nn.Linear(tokens.dim, width)
        self.up = nn.Linear(width, tokens.dim)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        y_BND: Tensor = self.plain(x_BND) + self.up(torch.relu(self.down(x_BND))) * self.scale
        return y_BND


def own(model: nn.Module) -> dict[str, nn.Parameter]:
    """What the adapters of `model` add to it, by the names that its state has for it."""
    return {
        f"{name}.{key}".lstrip("."): parameter
        for name, module in model.named_modules()
        if isinstance(module, Mixer)
        for key, parameter in module.named_parameters()
        if not key.startswith("plain.")
    }


def put(weights: dict[str, Tensor], model: nn.Module) -> None:
    """Give the adapters of `model` the values of `weights`. Raises InputError unless they are for just such a model."""
    mine = own(model)
    differ = sorted(k for k in mine.keys() | weights.keys() if _shape(mine.get(k)) != _shape(weights.get(k)))
    parts.must(
        not differ,
        f"these adapters are not of this model: {', '.join(differ[:3])} is absent from one of them, or has another "
        "shape there; take adapters trained on a model of the same configuration",
    )
    with torch.no_grad():
        for name, parameter in mine.items():
            parameter.copy_(weights[name])


def _shape(tensor: Tensor | None) -> torch.Size | None:
    return None if tensor is None else tensor.shape
