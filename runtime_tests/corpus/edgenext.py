"""EdgeNeXt-XX-Small (arXiv:2206.10589) of timm, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("edgenext_xx_small", pixels=64, epochs=4, rate=2e-3)
