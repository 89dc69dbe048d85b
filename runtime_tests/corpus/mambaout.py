"""MambaOut-Femto (arXiv:2405.07992) of timm, of 4 blocks, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("mambaout_femto", pixels=64, epochs=4, rate=2e-3, depths=(1, 1, 1, 1))
