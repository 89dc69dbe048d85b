"""YOLOS, a detector (arXiv:2106.00666) of transformers, of 2 layers."""

from functools import partial

from runtime_tests.corpus._images import photos
from runtime_tests.corpus._transformers import SMALL, from_config

MODEL = from_config(
    "YolosForObjectDetection",
    takes="pixel_values",
    gives="pred_boxes",
    data=partial(photos, 64),
    image_size=[64, 64],
    num_detection_tokens=10,
    num_labels=5,
    **SMALL,
)
