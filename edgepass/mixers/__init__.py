"""Mixers: what moves information between tokens. One mixer per file; the name is the file.

A mixer's file offers `class Mixer(nn.Module)`, made by `Mixer(dim, settings)`, that maps x_BND to x_BND.
"""

import msgspec


class MixerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What moves information between tokens. `window` is in tokens."""

    name: str
    heads: int = 1
    window: int = 1
