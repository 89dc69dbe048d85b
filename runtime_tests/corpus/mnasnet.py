"""MnasNet-Small (arXiv:1807.11626) of timm."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("mnasnet_small", pixels=64)
