"""Models: Passformers and the presets that size them."""
