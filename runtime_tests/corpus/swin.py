"""Swin transformer (arXiv:2103.14030) of timm, of 2 stages, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained(
    "swin_tiny_patch4_window7_224",
    pixels=32,
    epochs=10,
    img_size=32,
    window_size=4,
    embed_dim=48,
    depths=(2, 2),
    num_heads=(3, 6),
)
