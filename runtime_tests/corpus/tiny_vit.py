"""TinyViT (arXiv:2207.10666) of timm, of 4 blocks, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained(
    "tiny_vit.TinyVit",
    pixels=64,
    epochs=4,
    rate=2e-3,
    depths=(1, 1, 1, 1),
    embed_dims=(32, 48, 64, 96),
    num_heads=(1, 2, 2, 3),
    window_sizes=(4, 4, 4, 2),
)
