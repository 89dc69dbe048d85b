"""MambaOut-Femto (arXiv:2405.07992) of timm, of 4 blocks."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("mambaout_femto", pixels=64, depths=(1, 1, 1, 1))
