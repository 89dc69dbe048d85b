"""Channel mixers: what moves information between the channels of each token. One per file; the name is the file.

A file offers `class Mixer(nn.Module)`, made by `Mixer(tokens, settings)`, that maps x_BND to x_BND.
"""
