"""MobileNetV4-Conv-Small at half width (arXiv:2404.10518) of timm, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("mobilenetv4_conv_small_050", pixels=64, epochs=4, rate=4e-3)
