"""Visformer (arXiv:2104.12533) of timm, of 3 layers."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("visformer_tiny", pixels=64, img_size=64)
