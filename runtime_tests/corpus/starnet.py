"""StarNet-S1 (arXiv:2403.19967) of timm."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("starnet_s1", pixels=64)
