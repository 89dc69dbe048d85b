"""Images: crops of two photographs, and handwritten digits, that ship in scikit-learn."""

from functools import cache

import numpy as np
import torch
from sklearn import datasets
from torch import Tensor
from torch.nn import functional

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, which timm's models take


@cache
def _photos() -> Tensor:
    """[2, 3, 427, 640] in [0, 1]."""
    both = np.stack(datasets.load_sample_images().images)
    return torch.from_numpy(both).permute(0, 3, 1, 2).float() / 255


def photos(pixels: int, count: int) -> Tensor:
    """Crops [count, 3, pixels, pixels] from anywhere, of any size, some of them turned about; normalised."""
    crops = []
    for _ in range(count):
        photo = _photos()[torch.randint(2, ())]
        side = int(torch.randint(pixels, 400, ()))
        top, left = (int(torch.randint(size - side, ())) for size in photo.shape[1:])
        crop = photo[None, :, top : top + side, left : left + side]
        crop = functional.interpolate(crop, (pixels, pixels), mode="bilinear", antialias=True)
        crops.append(crop.flip(3) if torch.rand(()) < 0.5 else crop)
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    return (torch.cat(crops) - mean) / deviation


@cache
def _digits(pixels: int) -> tuple[Tensor, Tensor]:
    bunch = datasets.load_digits()
    images = torch.from_numpy(bunch.images).float()[:, None] / 8 - 1
    large = functional.interpolate(images, (pixels, pixels), mode="bilinear")
    return large.expand(-1, 3, -1, -1), torch.from_numpy(bunch.target).long()


def digits(pixels: int, count: int, seed: int) -> tuple[list[Tensor], Tensor]:
    """Images [count, 3, pixels, pixels] and what they show. Even seeds and odd ones have none in common."""
    images, labels = _digits(pixels)
    mine = torch.arange(seed % 2, len(images), 2)
    rows = mine[torch.randperm(len(mine))[:count]]
    return [images[rows]], labels[rows]
