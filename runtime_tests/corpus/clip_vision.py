"""CLIP's image encoder (arXiv:2103.00020) of transformers, of 2 layers."""

from functools import partial

from runtime_tests.corpus._images import photos
from runtime_tests.corpus._transformers import SMALL, from_config

MODEL = from_config(
    "CLIPVisionModelWithProjection",
    takes="pixel_values",
    gives="image_embeds",
    data=partial(photos, 64),
    image_size=64,
    patch_size=16,
    projection_dim=32,
    **SMALL,
)
