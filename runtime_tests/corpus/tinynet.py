"""TinyNet-E (arXiv:2010.14819) of timm."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("tinynet_e", pixels=64)
