"""MobileViTv2 at half width (arXiv:2206.02680) of timm."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("mobilevitv2_050", pixels=64)
