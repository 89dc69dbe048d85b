"""MobileViT-XXS (arXiv:2110.02178) of timm."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("mobilevit_xxs", pixels=64)
