"""MobileNetV3-Small at half width (arXiv:1905.02244) of timm, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("mobilenetv3_small_050", pixels=32, epochs=8)
