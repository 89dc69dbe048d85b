"""DenseNet-BC (arXiv:1608.06993) of timm, of 3 blocks."""

from runtime_tests.corpus._timm import photographs

MODEL = photographs("densenet121", pixels=64, growth_rate=8, block_config=(3, 3, 3))
