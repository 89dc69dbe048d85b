"""NFNet-L0 without norms, its weights standardised (arXiv:2102.06171) of timm, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("nf_regnet_b0", pixels=64, epochs=4, rate=4e-3)
