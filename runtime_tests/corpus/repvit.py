"""RepViT-M0.9 (arXiv:2307.09283) of timm."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("repvit_m0_9", pixels=64)
