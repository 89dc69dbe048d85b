"""Image models of timm, trained to tell digits: a deep network that was never trained makes noise of any rounding."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from torch import nn

from edgepass.examples._learning import fit
from runtime_tests.corpus._absent import absent
from runtime_tests.corpus._foreign import Foreign
from runtime_tests.corpus._images import digits
from runtime_tests.corpus._settle import settled

CLASSES, TRAINING = 10, 898


def create(name: str, **options: Any) -> nn.Module:
    """A model of timm's by its name, or a class by `module.Class` where names leave no size open; random weights."""
    with absent("torchvision"):
        import timm
    home, _, kind = name.rpartition(".")
    made = getattr(import_module(f"timm.models.{home}"), kind) if home else partial(timm.create_model, name)
    model: nn.Module = made(num_classes=CLASSES, **options)
    return model


def trained(name: str, *, pixels: int, epochs: int, rate: float = 2e-3, **options: Any) -> Foreign:
    """Trained to tell digits [1, 3, pixels, pixels]."""
    data = partial(digits, pixels)

    def train(make: Callable[[], nn.Module]) -> nn.Module:
        (images,), labels = data(TRAINING, 1)
        return settled(fit(make, [images], labels, epochs=epochs, rate=rate), images)

    return Foreign(make=partial(create, name, **options), train=train, data=data)
