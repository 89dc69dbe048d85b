"""SKNet (arXiv:1903.06586) of timm, of 4 blocks."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("skresnet18", pixels=64, layers=(1, 1, 1, 1))
