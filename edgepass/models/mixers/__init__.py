"""Token mixers: what moves information between tokens. One per file; the name is the file.

A file offers `class Mixer(nn.Module)`, made by `Mixer(tokens, settings)`, that maps x_BND to x_BND. A mixer that can
run one token at a time has `start(batch)`, its first state as a tuple of tensors, and `step(x_BD, *state)`, which
gives y_BD and the next state.
"""
