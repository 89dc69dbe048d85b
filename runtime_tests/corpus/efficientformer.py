"""EfficientFormerV2-S0 (arXiv:2212.08059) of timm."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("efficientformerv2_s0", pixels=64, img_size=64)
