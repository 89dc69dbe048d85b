"""Layers of torch itself, made classifiers of waves by a linear layer."""

from collections.abc import Callable

from torch import Tensor, nn

from edgepass.examples._learning import fit
from runtime_tests.corpus._foreign import Foreign
from runtime_tests.corpus._sequences import bands

CHANNELS, LABELS = 2, 4


def patches(width: int) -> nn.Module:
    """x [B, 64, CHANNELS] -> [B, 16, width]: four steps are one."""
    return nn.Sequential(nn.Unflatten(1, (16, 4)), nn.Flatten(2), nn.Linear(4 * CHANNELS, width))


class Classifier(nn.Module):
    """x [B, 64, CHANNELS] -> scores [B, LABELS] of the mean over time of what a layer of width `width` gives."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.embed, self.layer, self.head = patches(32), layer, nn.Linear(width, LABELS)

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        y = self.layer(self.embed(x))
        scores: Tensor = self.head((y[0] if isinstance(y, tuple) else y).mean(dim=1))
        return scores


def trained(make: Callable[[], nn.Module], *, epochs: int = 4) -> Foreign:
    """Trained to tell which waves are quick."""

    def train(make: Callable[[], nn.Module]) -> nn.Module:
        return fit(make, *bands(2048, 4), epochs=epochs, rate=4e-3)

    return Foreign(make=make, train=train, data=bands)
