"""MobileOne-S0 (arXiv:2206.04040) of timm, with its branches apart."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("mobileone_s0", pixels=64)
