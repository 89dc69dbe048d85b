"""MobileNetV2 at half width (arXiv:1801.04381) of timm."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("mobilenetv2_050", pixels=64)
