"""PP-LCNet at 0.35 of its width (arXiv:2109.15099) of timm."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("lcnet_035", pixels=64)
