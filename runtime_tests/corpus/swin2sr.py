"""Swin2SR, twice as many pixels (arXiv:2209.11345) of transformers."""

from functools import partial

from runtime_tests.corpus._images import photos
from runtime_tests.corpus._transformers import from_config

MODEL = from_config(
    "Swin2SRForImageSuperResolution",
    takes="pixel_values",
    gives="reconstruction",
    data=partial(photos, 16),
    image_size=16,
    embed_dim=24,
    depths=[2],
    num_heads=[2],
    window_size=4,
    upscale=2,
)
