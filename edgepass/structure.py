"""What a model takes and gives, of any structure, as tensors in a row with names.

    {"logits": a, "hidden_states": (b, c)}      logits, hidden_states_0, hidden_states_1
    a, (b, None), 3                             output_0, output_1

Dictionaries, lists, tuples, named tuples, dataclasses and the outputs of Hugging Face's models, in one another.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

Path = tuple[str | int, ...]
"""Keys, names of fields, and places in a row, from the outside in."""


def leaves(tree: Any, at: Path = ()) -> Iterator[tuple[Path, Any]]:
    """All that is no container, each with where it is, in the order that torch.export has too."""
    parts = _parts(tree)
    if parts is None:
        yield at, tree
        return
    for key, part in parts:
        yield from leaves(part, (*at, key))


def plain(tree: Any) -> Any:
    """The same in dictionaries, lists and tuples, which torch.export knows; dataclasses become dictionaries."""
    if isinstance(tree, (list, tuple)):
        parts = [plain(part) for part in tree]
        same = all(new is old for new, old in zip(parts, tree, strict=True))
        return tree if same else parts if isinstance(tree, list) else tuple(parts)
    parts_ = _parts(tree)
    if parts_ is None:
        return tree
    return {str(key): plain(part) for key, part in parts_}


def names(paths: Collection[Path], otherwise: str, taken: Collection[str] = ()) -> tuple[str, ...]:
    """What each is called: by its keys, `hidden_states_0`, and where it has none by its place, `output_1`.

    otherwise: the word before the place. All are different, none is among `taken`, and each is a word of a program.
    """
    found: list[str] = []
    for number, path in enumerate(paths):
        first = next((place for place, key in enumerate(path) if isinstance(key, str)), None)
        keyed = "" if first is None else re.sub(r"\W", "_", "_".join(map(str, path[first:])), flags=re.ASCII)
        word = f"{otherwise}_{number}" if not keyed.strip("_") else f"_{keyed}" if keyed[0].isdigit() else keyed
        if word in taken:
            word = f"{word}_{otherwise}"
        again = sum(other == word or other.startswith(f"{word}__") for other in found)
        found.append(f"{word}__{again}" if again else word)
    return tuple(found)


def _parts(tree: Any) -> list[tuple[str | int, Any]] | None:
    """What it holds, by key or place; None of what holds nothing."""
    if isinstance(tree, Mapping):
        return [(str(key), part) for key, part in tree.items()]
    if isinstance(tree, (list, tuple)):
        keys: Any = getattr(tree, "_fields", range(len(tree)))
        return list(zip(keys, tree, strict=True))
    if is_dataclass(tree) and not isinstance(tree, type):
        return [(field.name, getattr(tree, field.name)) for field in fields(tree)]
    return None
