"""ConvMixer (arXiv:2201.09792) of timm, of 4 layers, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("convmixer.ConvMixer", pixels=32, epochs=8, dim=96, depth=4, kernel_size=5, patch_size=4)
