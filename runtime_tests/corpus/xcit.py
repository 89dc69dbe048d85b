"""XCiT-Nano (arXiv:2106.09681) of timm, of 2 layers, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("xcit_nano_12_p16_224", pixels=64, epochs=4, rate=2e-3, img_size=64, depth=2)
