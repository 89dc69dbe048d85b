"""DeiT with its distillation token (arXiv:2012.12877) of timm, of 2 layers, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("deit_tiny_distilled_patch16_224", pixels=64, epochs=4, rate=2e-3, img_size=64, depth=2)
