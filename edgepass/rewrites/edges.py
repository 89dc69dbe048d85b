"""A pad with the outermost numbers that cuts at another side, by the places of what it keeps and repeats.

    before   x ─ pad(-2, 3, replicate) ─ y           after   x ─ x[clamp(2 ... end + 3)] ─ y

onnxruntime 1.31 cuts first, and then finds nothing to repeat.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE, Table


def pad(x: Tensor, sides: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """As torch.nn.functional.pad(mode="replicate")."""
    if mode != "replicate" or all(n >= 0 for n in sides) or any(isinstance(n, torch.SymInt) for n in x.shape):
        return LEFT_ALONE
    for number, (before, after) in enumerate(zip(sides[::2], sides[1::2], strict=True)):
        dim = x.dim() - 1 - number
        size = x.shape[dim]
        places = torch.arange(-before, size + after).clamp(0, size - 1)
        x = x.index_select(dim, places) if before or after else x
    return x


TABLE: Table = {torch.ops.aten.pad.default: pad}
