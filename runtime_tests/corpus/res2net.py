"""Res2Net (arXiv:1904.01169) of timm, of 4 blocks, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("res2net50_26w_4s", pixels=64, epochs=4, rate=4e-3, layers=(1, 1, 1, 1))
