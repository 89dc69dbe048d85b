"""MobileOne-S0 (arXiv:2206.04040) of timm, with its branches apart, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("mobileone_s0", pixels=64, epochs=4, rate=4e-3)
