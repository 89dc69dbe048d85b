"""MobileNetV2 at half width (arXiv:1801.04381) of timm, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("mobilenetv2_050", pixels=64, epochs=6, rate=4e-3)
