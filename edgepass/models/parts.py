"""Parts: what a Passformer is assembled from. A part's kind is a folder, its name a file, its settings a struct there.

A part is asked for as a table of its name and settings, `{ name = "local_attention", heads = 4 }`. Its file offers
`class Settings`, the class that CLASSES names for its kind, and `GRADE`: how it exports.
Shapes: B batch, N tokens, D channels.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Annotated, Any

import msgspec

from edgepass import catalog
from edgepass.errors import InputError

CLASSES = {
    "embeddings": "Embedding",
    "encodings": "Encoding",
    "mixers": "Mixer",
    "channel_mixers": "Mixer",
    "merges": "Merge",
    "topologies": "Topology",
    "heads": "Head",
}
GRADES = {
    0: "every operation is in the delegates as it stands",
    1: "static after a rewrite: constants baked, sums as products, a plain order of blocks",
    2: "static, but an operation leaves a delegate, or it takes several files or a state",
    3: "a scan or a loop: a step with its state, or a short sequence unrolled",
}

Choice = dict[str, Any]
"""A part that is asked for: its `name`, and any of its settings."""
Count = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Positive = Annotated[float, msgspec.Meta(gt=0, le=1e6)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a part can be told; every setting has a value of its own, so that a name alone is a part."""


class Tokens(msgspec.Struct, frozen=True):
    """The tokens x_BND that a part sees, N of them in row-major order over `grid`, each of `dim` channels.

    `grid` is (time,), (rows, columns), (frames, rows, columns) or (variates, time). Where tokens belong to the variates
    of a series, `variates` is how many there are along grid[0]; it is 1 where they do not. `folded` is how many
    variates are in the batch, each a sequence of its own.
    """

    grid: tuple[int, ...]
    dim: int
    variates: int = 1
    folded: int = 1

    @property
    def count(self) -> int:
        """N."""
        return math.prod(self.grid)


def settings(kind: str, choice: Choice) -> tuple[ModuleType, Any]:
    """The file of a part and the settings that `choice` gives it.

    Raises UnknownNameError for a name that is not there, InputError for settings that it does not have.
    """
    what = catalog.singular(kind)
    if not isinstance(choice.get("name"), str):
        raise InputError(f'a {what} needs a name, as in {{ name = "{catalog.names(kind)[0]}" }}; it has {choice}')
    module = catalog.load(kind, choice["name"])
    given = {key: value for key, value in choice.items() if key != "name"}
    try:
        return module, msgspec.convert(given, module.Settings)
    except msgspec.ValidationError as error:
        known = ", ".join(module.Settings.__struct_fields__) or "none"
        raise InputError(f"{what} {choice['name']!r}: {error}; its settings are: {known}") from None


def make(kind: str, choice: Choice, *args: Any) -> Any:
    """The part that `choice` asks for, made from `args` and its settings. Raises InputError for what cannot be."""
    module, chosen = settings(kind, choice)
    with inside(f"{catalog.singular(kind)} {choice['name']!r}"):
        return getattr(module, CLASSES[kind])(*args, chosen)


def must(holds: bool, what: str) -> None:
    """Raise InputError saying `what` unless it holds."""
    if not holds:
        raise InputError(what)


@contextmanager
def inside(where: str) -> Iterator[None]:
    """Say where it was that something could not be built."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def hidden(dim: int, ratio: float) -> int:
    """Hidden width of `ratio` times the channels. Raises InputError below 1."""
    width = round(dim * ratio)
    must(width >= 1, f"ratio {ratio} of {dim} channels is a hidden width below 1; 1.0 to 4.0 is usual")
    return width


def head_dim(dim: int, heads: int) -> int:
    """Channels of each of the `heads` that share `dim`. Raises InputError unless it is a whole number."""
    fits = max(h for h in range(1, heads + 1) if dim % h == 0)
    must(fits == heads, f"{heads} heads do not divide {dim} channels; give a number that does, such as {fits}")
    return dim // heads


def alike(into: Tokens, other: Tokens) -> None:
    """Raise InputError unless two streams have equally many tokens of one width."""
    must(
        (into.count, into.dim) == (other.count, other.dim),
        f"{other.count} tokens of {other.dim} channels cannot be merged into {into.count} of {into.dim}; "
        "cross_attend merges streams of any shape",
    )
