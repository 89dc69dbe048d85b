"""EfficientNet-Lite0 (arXiv:1905.11946) of timm."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("efficientnet_lite0", pixels=64)
