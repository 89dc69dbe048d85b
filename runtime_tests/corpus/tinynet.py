"""TinyNet-E (arXiv:2010.14819) of timm, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("tinynet_e", pixels=64, epochs=4, rate=4e-3)
