"""Vision transformer (arXiv:2010.11929) of timm, of 2 layers, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("vit_tiny_patch16_224", pixels=32, epochs=10, img_size=32, patch_size=4, depth=2, embed_dim=96)
