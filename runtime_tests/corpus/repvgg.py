"""RepVGG-A0 (arXiv:2101.03697) of timm, with its branches apart."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("repvgg_a0", pixels=32)
