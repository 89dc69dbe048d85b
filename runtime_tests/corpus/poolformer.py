"""PoolFormer (arXiv:2111.11418) of timm, of 4 blocks, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("metaformer.MetaFormer", pixels=64, epochs=4, rate=2e-3, depths=(1, 1, 1, 1), dims=(32, 64, 96, 128))
