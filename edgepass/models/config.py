"""What a Passformer is made of, as data: read from TOML, checked before anything is built.

Sizes of the data, such as lookback, horizon and channels, are not part of it: one preset serves any of them.
"""

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from edgepass import catalog
from edgepass.errors import InputError
from edgepass.models import parts
from edgepass.models.parts import Choice


class PassConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One pass: any of a mixer, a gate and a channel mixer, each behind a norm and with an optional skip."""

    mixer: Choice | None = None
    gate: Literal["values", "pass"] | None = None
    """`values`: each value that the mixer gives is scaled; `pass`: one factor scales all that the pass adds."""
    channel_mixer: Choice | None = None
    norm: bool = True
    skip: bool = True
    scale: float | None = None
    """Where a learned factor on each channel of what a part adds starts; 0 starts the pass as its skip alone."""


class TrunkConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Passformer without its head: from input to tokens."""

    dim: int
    embedding: Choice = msgspec.field(default_factory=lambda: {"name": "patch"})
    encoding: Choice = msgspec.field(default_factory=lambda: {"name": "learned"})
    topology: Choice = msgspec.field(default_factory=lambda: {"name": "stack"})
    passes: tuple[PassConfig, ...]


class Config(TrunkConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Passformer: its parts by name, from input to output."""

    name: str = "custom"
    head: Choice = msgspec.field(default_factory=lambda: {"name": "forecast"})
    direct: bool = True
    """Forecasters only: a linear path from the normalised window to the horizon, to which the passes add."""


def read(preset: str) -> Config:
    """The configuration of a preset, or of the user's own .toml file.

    Raises UnknownNameError for a preset that is not there and InputError for a text that does not say what it must.
    """
    text = catalog.read_toml("presets", preset)
    try:
        config = msgspec.toml.decode(text, type=Config)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"preset {preset!r} cannot be used: {error}; see `edgepass list presets` for some") from None
    check(config)
    return config


def check(config: Config) -> None:
    """Raise InputError, in one sentence, for the first thing in `config` that no data can mend."""
    with parts.inside(f"model {config.name!r}"):
        check_trunk(config)
        parts.settings("heads", config.head)


def check_trunk(config: TrunkConfig) -> None:
    """Raise InputError, in one sentence, for the first thing before the head that no data can mend."""
    parts.must(config.dim >= 1, f"dim is {config.dim}; it must be at least 1")
    for kind, choice in (
        ("embeddings", config.embedding),
        ("encodings", config.encoding),
        ("topologies", config.topology),
    ):
        parts.settings(kind, choice)
    check_passes(config.passes)


def check_passes(passes: Sequence[PassConfig]) -> None:
    """Raise InputError, in one sentence, for the first pass that cannot be, or that would do nothing."""
    for number, p in enumerate(passes, start=1):
        with parts.inside(f"pass {number}"):
            _check_pass(p)


def _check_pass(p: PassConfig) -> None:
    parts.must(
        p.mixer is not None or p.gate == "values" or p.channel_mixer is not None,
        "it does nothing; give it a mixer, a gate of values or a channel_mixer, or leave it out",
    )
    parts.must(p.scale is None or math.isfinite(p.scale), f"scale is {p.scale}; give a number, 0 to start as the skip")
    for kind, choice in (("mixers", p.mixer), ("channel_mixers", p.channel_mixer)):
        if choice is not None:
            parts.settings(kind, choice)
