"""NFNet-L0 without norms, its weights standardised (arXiv:2102.06171) of timm."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("nf_regnet_b0", pixels=64)
