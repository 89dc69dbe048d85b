"""CSP-Darknet (arXiv:1911.11929) of timm."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("cs3darknet_focus_s", pixels=64)
