"""EfficientNet-Lite0 (arXiv:1905.11946) of timm, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("efficientnet_lite0", pixels=64, epochs=4, rate=4e-3)
