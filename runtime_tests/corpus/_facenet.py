"""The three networks of MTCNN (arXiv:1604.02878), which find faces, with the weights that facenet-pytorch ships."""

from collections.abc import Callable
from importlib import import_module

from torch import nn

from runtime_tests.corpus._absent import absent
from runtime_tests.corpus._foreign import Foreign
from runtime_tests.corpus._images import photos


def network(name: str, *, pixels: int) -> Foreign:
    """One of them, of photographs [1, 3, pixels, pixels]."""

    def make() -> nn.Module:
        with absent("torchvision"):
            kind: Callable[..., nn.Module] = getattr(import_module("facenet_pytorch.models.mtcnn"), name)
        return kind(pretrained=True)

    return Foreign(make=make, data=lambda count, seed: ([photos(pixels, count) / 2], None))
