"""CoaT-Lite-Tiny (arXiv:2104.06399) of timm."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("coat_lite_tiny", pixels=64, img_size=64, serial_depths=(1, 1, 1, 1))
