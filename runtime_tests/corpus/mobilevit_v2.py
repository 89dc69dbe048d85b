"""MobileViTv2 at half width (arXiv:2206.02680) of timm, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("mobilevitv2_050", pixels=64, epochs=4, rate=2e-3)
