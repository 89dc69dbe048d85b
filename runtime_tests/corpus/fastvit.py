"""FastViT-T8 (arXiv:2303.14189) of timm, with its branches apart."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("fastvit_t8", pixels=64)
