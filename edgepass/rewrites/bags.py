"""The sum, mean or largest of the rows that a bag names, by a table of which are whose.

    before   rows, indices, offsets ─ embedding_bag ─ y
    after    rows ─ [indices] ─ matmul(1 where the bag's)  ─ y          mean: / how many      max: where(·) ─ amax

ExecuTorch 1.5.1 has no kernel of it, and coremltools 9.0 does not know it.
"""

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE, Table

aten = torch.ops.aten
SUM, MEAN, MAX = range(3)


def embedding_bag(
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = SUM,
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> tuple[Tensor, ...]:
    """[bags, C] of rows [N, C], and what training needs, which is left empty, as torch.embedding_bag."""
    if any(isinstance(n, torch.SymInt) for x in (indices, offsets) for n in x.shape) or not indices.numel():
        return LEFT_ALONE
    nth = torch.arange(len(indices), dtype=offsets.dtype)
    counted = (offsets <= nth[:, None]).to(torch.int32).sum(1)  # of bags that begin here or before
    bag = torch.arange(1, len(offsets) + 1 - include_last_offset, dtype=torch.int32)
    theirs = counted == bag[:, None]  # [bags, indices]
    if padding_idx is not None and padding_idx >= 0:
        theirs = theirs & (indices != padding_idx)
    rows = weight.index_select(0, indices)
    there = theirs.to(weight.dtype)
    size = there.sum(1, keepdim=True)
    if mode == MAX:
        lowest = torch.full((), torch.finfo(weight.dtype).min, dtype=weight.dtype)
        highest = torch.where(theirs.unsqueeze(-1), rows, lowest).amax(1)
        bags = torch.where(size > 0, highest, torch.zeros((), dtype=weight.dtype))
    else:
        weights = there if per_sample_weights is None else there * per_sample_weights
        bags = weights @ rows
        bags = bags / size.clamp(min=1) if mode == MEAN else bags
    empty = torch.zeros(1, dtype=indices.dtype)
    return bags, empty, empty, empty


TABLE: Table = {
    aten.embedding_bag.default: embedding_bag,
    aten.embedding_bag.padding_idx: embedding_bag,
    aten._embedding_bag.default: embedding_bag,
    aten._embedding_bag_forward_only.default: embedding_bag,
}
