"""Visformer (arXiv:2104.12533) of timm, of 3 layers, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("visformer_tiny", pixels=64, epochs=4, rate=2e-3, img_size=64)
