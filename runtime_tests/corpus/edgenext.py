"""EdgeNeXt-XX-Small (arXiv:2206.10589) of timm."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("edgenext_xx_small", pixels=64)
