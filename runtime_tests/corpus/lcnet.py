"""PP-LCNet at 0.35 of its width (arXiv:2109.15099) of timm, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("lcnet_035", pixels=64, epochs=4, rate=4e-3)
