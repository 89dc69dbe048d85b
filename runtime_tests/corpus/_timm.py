"""Image models of timm, trained to tell digits: a deep network that was never trained makes noise of any rounding."""

from functools import partial
from importlib import import_module
from typing import Any

import torch
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

    def make() -> nn.Module:
        torch.manual_seed(0)
        (images,), labels = data(TRAINING, 1)
        return settled(fit(lambda: create(name, **options), [images], labels, epochs=epochs, rate=rate), images)

    return Foreign(make=make, data=data)
