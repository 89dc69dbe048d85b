"""DeepLabV3 over MobileNetV2 (arXiv:1706.05587) of transformers."""

from functools import partial

from runtime_tests.corpus._images import photos
from runtime_tests.corpus._transformers import from_config

MODEL = from_config(
    "MobileNetV2ForSemanticSegmentation",
    takes="pixel_values",
    gives="logits",
    data=partial(photos, 64),
    num_labels=5,
    depth_multiplier=0.35,
    semantic_loss_ignore_index=255,
)
