"""CSP-Darknet (arXiv:1911.11929) of timm, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("cs3darknet_focus_s", pixels=64, epochs=4, rate=4e-3)
