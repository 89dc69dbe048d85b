"""The order of a .tflite's inputs and outputs: that of its graph, with which a signature must agree.

An app reaches them by position or by the names of a signature. Where names are numbered (args_0 … args_10), as
converters from torch number them, both ways must lead to the same tensors.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgepass.errors import DamagedError


def check(positions: Sequence[int], signature: Mapping[str, int], side: str, path: Path) -> None:
    """Raise DamagedError where a signature's names, as tensors, contradict the tensors at the graph's positions."""
    if not signature:
        return
    if set(signature.values()) != set(positions):
        raise DamagedError(f"{path} has a signature whose {side}s are not those of its graph")
    numbers = {name: re.search(r"(?:args|inputs?|outputs?)_(\d+)$", name) for name in signature}
    if None in numbers.values():
        return
    named = sorted(signature, key=lambda name: int(found[1]) if (found := numbers[name]) else 0)
    if len(named) != len(positions):
        return
    for position, (name, tensor) in enumerate(zip(named, positions, strict=True)):
        if signature[name] != tensor:
            raise DamagedError(
                f"{path} gives one {side} to who asks by position and another to who asks by name: "
                f"{side} {position} is not its signature's {name!r}"
            )
