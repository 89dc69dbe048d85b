"""MobileOne-S0 (arXiv:2206.04040) of timm, with its branches apart, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("mobileone_s0", pixels=32, epochs=18, rate=2e-3)
