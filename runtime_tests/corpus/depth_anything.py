"""Depth Anything over DINOv2 (arXiv:2401.10891) of transformers, of 4 layers."""

from functools import partial

from runtime_tests.corpus._images import photos
from runtime_tests.corpus._transformers import from_config

LAYERS = ["stage1", "stage2", "stage3", "stage4"]
BACKBONE = {
    "model_type": "dinov2",
    "image_size": 56,
    "patch_size": 14,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "out_features": LAYERS,
    "reshape_hidden_states": False,
    "initializer_range": 0.1,
}
MODEL = from_config(
    "DepthAnythingForDepthEstimation",
    takes="pixel_values",
    gives="predicted_depth",
    data=partial(photos, 56),
    backbone_config=BACKBONE,
    reassemble_hidden_size=32,
    neck_hidden_sizes=[16, 32, 48, 64],
    fusion_hidden_size=16,
    head_hidden_size=8,
    initializer_range=0.1,
)
