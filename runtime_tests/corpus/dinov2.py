"""DINOv2 (arXiv:2304.07193) of transformers, of 2 layers."""

from functools import partial

from runtime_tests.corpus._images import photos
from runtime_tests.corpus._transformers import from_config

MODEL = from_config(
    "Dinov2Model",
    takes="pixel_values",
    gives="last_hidden_state",
    data=partial(photos, 56),
    image_size=56,
    patch_size=14,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
)
