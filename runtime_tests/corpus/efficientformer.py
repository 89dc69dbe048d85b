"""EfficientFormerV2-S0 (arXiv:2212.08059) of timm, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("efficientformerv2_s0", pixels=64, epochs=4, rate=2e-3, img_size=64)
