"""RegNetY-200MF (arXiv:2003.13678) of timm."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("regnety_002", pixels=64)
