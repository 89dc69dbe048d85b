"""RegNetY-200MF (arXiv:2003.13678) of timm, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("regnety_002", pixels=64, epochs=4, rate=4e-3)
