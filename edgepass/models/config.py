"""What a Passformer is made of, as data: read from TOML, checked before anything is built.

Lookback, horizon and channels are not part of it: they belong to the series, and one preset serves any of them.
"""

import msgspec

from edgepass import catalog
from edgepass.errors import InputError
from edgepass.mixers import MixerConfig


class Embedding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How values become tokens: `patch` consecutive values each; 1 makes every point a token."""

    patch: int = 16


class PassConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One pass: any of a mixer, a gate and a feed-forward part, each behind a norm and with an optional skip."""

    mixer: MixerConfig | None = None
    gate: bool = False
    feed_forward: float | None = None
    """Hidden width as a multiple of `dim`."""
    norm: bool = True
    skip: bool = True


class Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How tokens become the forecast. `direct` adds a linear path from the normalised window to the horizon."""

    direct: bool = True
    dropout: float = 0.0
    """Share of the token values that each training step hides from the head."""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Passformer."""

    name: str = "custom"
    dim: int
    embedding: Embedding = Embedding()
    passes: tuple[PassConfig, ...]
    head: Head = Head()


def read(preset: str) -> Config:
    """The configuration of a preset, or of the user's own .toml file.

    Raises UnknownNameError for a preset that is not there and InputError for a text that does not say what it must.
    """
    text = catalog.read_toml("presets", preset)
    try:
        config = msgspec.toml.decode(text, type=Config)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"preset {preset!r} cannot be used: {error}; see `edgepass list presets` for some") from None
    check(config)
    return config


def check(config: Config) -> None:
    """Raise InputError, in one sentence, for the first thing in `config` that cannot be built."""

    def must(holds: bool, what: str) -> None:
        if not holds:
            raise InputError(f"model {config.name!r}: {what}")

    must(config.dim >= 1, f"dim is {config.dim}; it must be at least 1")
    must(config.embedding.patch >= 1, f"patch is {config.embedding.patch}; it must be at least 1, which is a point")
    must(0 <= config.head.dropout < 1, f"dropout is {config.head.dropout}; it must be at least 0 and below 1")
    for number, p in enumerate(config.passes, start=1):
        where = f"pass {number}"
        ratio = p.feed_forward
        must(
            p.mixer is not None or p.gate or ratio is not None,
            f"{where} does nothing; give it a mixer, a gate or a feed_forward ratio, or leave it out",
        )
        must(
            ratio is None or (0 < ratio * config.dim < float("inf") and round(ratio * config.dim) >= 1),
            f"{where} has feed_forward {ratio}, a hidden width below 1 or no number; 1.0 to 4.0 is usual",
        )
        if p.mixer is not None:
            catalog.load("mixers", p.mixer.name)
            heads, window = p.mixer.heads, p.mixer.window
            must(heads >= 1, f"{where} has {heads} heads; at least 1 is needed")
            must(config.dim % heads == 0, f"{where} has {heads} heads, which do not divide dim {config.dim}")
            must(window >= 1, f"{where} has a window of {window} tokens; at least 1 is needed")
