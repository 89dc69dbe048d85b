"""DeepLabV3 over MobileNetV2 (arXiv:1706.05587) of transformers, trained to tell how bright each part of a photo is."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepass.examples._learning import fit
from runtime_tests.corpus._foreign import Foreign
from runtime_tests.corpus._images import photos
from runtime_tests.corpus._settle import settled
from runtime_tests.corpus._transformers import Taking

PIXELS, PARTS, TRAINING = 64, 2, 1024
BOUNDS = (-1.2, -0.6, 0.0, 0.6)
"""Of the mean of a part, in deviations, between the five classes."""


def _made() -> nn.Module:
    return Taking(
        "MobileNetV2ForSemanticSegmentation",
        "pixel_values",
        "logits",
        num_labels=len(BOUNDS) + 1,
        depth_multiplier=0.35,
        semantic_loss_ignore_index=255,
    )


def _shades(images: Tensor) -> Tensor:
    """The class of each part: [B, 3, PIXELS, PIXELS] to [B, PARTS, PARTS]."""
    means = functional.interpolate(images.mean(1, keepdim=True), (PARTS, PARTS), mode="area")
    return torch.bucketize(means[:, 0], torch.tensor(BOUNDS))


def _trained(make: Callable[[], nn.Module]) -> nn.Module:
    images = photos(PIXELS, TRAINING)
    return settled(fit(make, [images], _shades(images), epochs=8, rate=4e-3), images[:256])


MODEL = Foreign(make=_made, train=_trained, data=lambda count, seed: ([photos(PIXELS, count)], None))
