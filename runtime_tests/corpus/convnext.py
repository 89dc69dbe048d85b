"""ConvNeXt-Atto (arXiv:2201.03545) of timm, of 4 blocks, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("convnext_atto", pixels=32, epochs=8, depths=(1, 1, 1, 1), patch_size=2)
