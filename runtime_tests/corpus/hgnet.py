"""HGNetV2-B0 (arXiv:2304.08069) of timm, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("hgnetv2_b0", pixels=64, epochs=4, rate=4e-3)
