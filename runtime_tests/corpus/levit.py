"""LeViT-128S (arXiv:2104.01136) of timm, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("levit_128s", pixels=64, epochs=4, rate=2e-3, img_size=64)
