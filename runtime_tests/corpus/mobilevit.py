"""MobileViT-XXS (arXiv:2110.02178) of timm, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("mobilevit_xxs", pixels=64, epochs=4, rate=2e-3)
