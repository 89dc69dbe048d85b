"""Pooling-based vision transformer (arXiv:2103.16302) of timm, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("pit_ti_224", pixels=64, epochs=4, rate=2e-3, img_size=64, depth=(1, 1, 1))
