"""XCiT-Nano (arXiv:2106.09681) of timm, of 2 layers."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("xcit_nano_12_p16_224", pixels=64, img_size=64, depth=2)
