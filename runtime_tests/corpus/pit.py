"""Pooling-based vision transformer (arXiv:2103.16302) of timm."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("pit_ti_224", pixels=64, img_size=64, depth=(1, 1, 1))
