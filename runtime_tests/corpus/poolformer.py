"""PoolFormer (arXiv:2111.11418) of timm, of 4 blocks."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("metaformer.MetaFormer", pixels=64, depths=(1, 1, 1, 1), dims=(32, 64, 96, 128))
