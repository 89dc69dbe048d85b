"""MnasNet-Small (arXiv:1807.11626) of timm, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("mnasnet_small", pixels=64, epochs=4, rate=4e-3)
