"""The order of a .tflite's inputs and outputs."""

import re
from typing import Any


def in_order(details: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tensors in the model's order: by the number that ends their names (args_0 … args_10) where all have one."""
    numbers = [re.search(r"(?:args|output)_(\d+)(?::\d+)?$", d["name"]) for d in details]
    if any(n is None for n in numbers):
        return details
    return [
        d for _, d in sorted(zip([int(n[1]) for n in numbers if n], details, strict=True), key=lambda pair: pair[0])
    ]
