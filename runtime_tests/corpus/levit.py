"""LeViT-128S (arXiv:2104.01136) of timm."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("levit_128s", pixels=64, img_size=64)
