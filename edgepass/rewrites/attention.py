"""Scaled dot-product attention as two 3-D matrix products around a softmax.

    before   query, key, value ─ scaled_dot_product_attention ─ out
    after    query·scale ─ bmm(keyᵀ) ─ (+ mask) ─ softmax ─ bmm(value) ─ out      batch and heads folded into one axis

The stock decomposition guards against rows that are masked whole, with any/eq/where operations that leave every
delegate; it is also what makes a view fail on transposed inputs. A row that is masked whole would give the mean of the
values: capture has opened such rows and puts zeros in their place (exporters/_canonical/hidden_rows.py).

Letters: N batch times heads, S queries, T keys, E width.
"""

import torch
from torch import Tensor

from edgepass.rewrites import constant


def masked(dtype: torch.dtype) -> float:
    """What is added to a masked score: below every score, and finite when added twice; -inf less -inf would be NaN.

    In float16 it is -32752, so the scores of a row may lie no further apart than that.
    """
    return torch.finfo(dtype).min / 2


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(query keyᵀ scale + mask) value, as torch.nn.functional.scaled_dot_product_attention defines it.

    query [..., S, E], key [..., T, E], value [..., T, V] -> [..., S, V]. Dropout is identity: exported models infer.
    """
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(groups, -3), value.repeat_interleave(groups, -3)
    lead = query.shape[:-2]
    if key.shape[:-2] != lead:
        key, value = key.expand(*lead, *key.shape[-2:]), value.expand(*lead, *value.shape[-2:])
    queries, keys = query.shape[-2], key.shape[-2]
    q_NSE, k_NTE, v_NTV = (x.reshape(-1, x.shape[-2], x.shape[-1]) for x in (query, key, value))
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    scores_NST = torch.bmm(q_NSE * constant(factor, query), k_NTE.transpose(1, 2))
    if is_causal:
        scores_NST = scores_NST + torch.full((queries, keys), masked(query.dtype), dtype=query.dtype).triu(1)
    if attn_mask is not None:
        mask = attn_mask
        if mask.dtype == torch.bool:
            mask = torch.where(mask, 0.0, masked(query.dtype)).to(query.dtype)
        scores_NST = (scores_NST.reshape(*lead, queries, keys) + mask.clamp(min=masked(query.dtype))).reshape(
            -1, queries, keys
        )
    out_NSV = torch.bmm(torch.softmax(scores_NST, -1), v_NTV)
    return out_NSV.reshape(*lead, queries, value.shape[-1])


TABLE = {torch.ops.aten.scaled_dot_product_attention.default: attention}
