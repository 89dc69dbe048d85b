"""SKNet (arXiv:1903.06586) of timm, of 4 blocks, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("skresnet18", pixels=64, epochs=4, rate=4e-3, layers=(1, 1, 1, 1))
