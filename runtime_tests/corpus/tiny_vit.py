"""TinyViT (arXiv:2207.10666) of timm, of 4 blocks."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs(
    "tiny_vit.TinyVit",
    pixels=64,
    depths=(1, 1, 1, 1),
    embed_dims=(32, 48, 64, 96),
    num_heads=(1, 2, 2, 3),
    window_sizes=(4, 4, 4, 2),
)
