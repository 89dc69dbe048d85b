"""Res2Net (arXiv:1904.01169) of timm, of 4 blocks."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("res2net50_26w_4s", pixels=64, layers=(1, 1, 1, 1))
