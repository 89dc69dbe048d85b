"""ResNet-10-T (arXiv:1512.03385, arXiv:2110.00476) of timm, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("resnet10t", pixels=32, epochs=3)
