"""MLP-Mixer (arXiv:2105.01601) of timm, of 2 layers, on digits."""

from runtime_tests.corpus._timm import trained

MODEL = trained("mlp_mixer.MlpMixer", pixels=32, epochs=12, img_size=32, patch_size=4, num_blocks=2, embed_dim=96)
