"""GhostNet at half width (arXiv:1911.11907) of timm, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("ghostnet_050", pixels=64, epochs=4, rate=4e-3)
