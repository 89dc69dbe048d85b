"""DeiT with its distillation token (arXiv:2012.12877) of timm, of 2 layers."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("deit_tiny_distilled_patch16_224", pixels=64, img_size=64, depth=2)
