"""SegFormer-B0 (arXiv:2105.15203) of transformers, of 4 blocks."""

from functools import partial

from runtime_tests.corpus._images import photos
from runtime_tests.corpus._transformers import from_config

MODEL = from_config(
    "SegformerForSemanticSegmentation",
    takes="pixel_values",
    gives="logits",
    data=partial(photos, 64),
    depths=[1, 1, 1, 1],
    num_labels=5,
)
