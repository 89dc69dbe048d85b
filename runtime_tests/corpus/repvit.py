"""RepViT-M0.9 (arXiv:2307.09283) of timm, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("repvit_m0_9", pixels=64, epochs=4, rate=4e-3)
