"""GhostNet at half width (arXiv:1911.11907) of timm."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("ghostnet_050", pixels=64)
