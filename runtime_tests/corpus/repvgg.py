"""RepVGG-A0 (arXiv:2101.03697) of timm, with its branches apart, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("repvgg_a0", pixels=32, epochs=4, rate=4e-3)
