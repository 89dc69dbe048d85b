"""HGNetV2-B0 (arXiv:2304.08069) of timm."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("hgnetv2_b0", pixels=64)
