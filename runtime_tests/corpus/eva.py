"""EVA-02 with rotary positions and SwiGLU (arXiv:2303.11331) of timm, of 2 layers, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("eva02_tiny_patch14_224", pixels=56, epochs=4, rate=2e-3, img_size=56, depth=2, head_init_scale=1.0)
