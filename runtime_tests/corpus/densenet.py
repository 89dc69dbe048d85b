"""DenseNet-BC (arXiv:1608.06993) of timm, of 3 blocks, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("densenet121", pixels=64, epochs=4, rate=4e-3, growth_rate=8, block_config=(3, 3, 3))
