"""FastViT-T8 (arXiv:2303.14189) of timm, with its branches apart, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("fastvit_t8", pixels=64, epochs=4, rate=2e-3)
