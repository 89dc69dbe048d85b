"""Each number as often as a tensor says, by the place that each copy comes from.

before   repeats ─ repeat_interleave(output_size) ─ at       after   repeats ─ cumsum ─ how many end before ─ at

Where the number of copies is not told, it depends on values, and no file has such shapes.
"""

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE, Table


def repeat_interleave(repeats: Tensor, *, output_size: int | None = None) -> Tensor:
    """[output_size], each place as often as `repeats` says, as torch.repeat_interleave of it alone."""
    if output_size is None or isinstance(output_size, torch.SymInt):
        return LEFT_ALONE
    ends = repeats.to(torch.int32).cumsum(0)
    every = torch.arange(output_size, dtype=torch.int32)[:, None]
    return (every >= ends).to(torch.int32).sum(1).to(torch.int64)


TABLE: Table = {torch.ops.aten.repeat_interleave.Tensor: repeat_interleave}
