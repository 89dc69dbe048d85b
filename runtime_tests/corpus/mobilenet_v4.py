"""MobileNetV4-Conv-Small at half width (arXiv:2404.10518) of timm."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("mobilenetv4_conv_small_050", pixels=64)
