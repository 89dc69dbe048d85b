"""CoaT-Lite-Tiny (arXiv:2104.06399) of timm, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("coat_lite_tiny", pixels=64, epochs=4, rate=2e-3, img_size=64, serial_depths=(1, 1, 1, 1))
