"""StarNet-S1 (arXiv:2403.19967) of timm, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("starnet_s1", pixels=64, epochs=4, rate=4e-3)
