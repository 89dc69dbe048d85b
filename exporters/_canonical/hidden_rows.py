"""Attention under a mask that may hide a whole row: zeros there, as torch gives.

    before   mask ─ scaled_dot_product_attention ─ y
    after    mask ─ (rows hidden whole: opened) ─ scaled_dot_product_attention ─ (· 0 in those rows) ─ y

No converter keeps torch's guard: a row that bools hide gives the mean of the values, one of -inf gives NaN. Bools are
made numbers besides, and so is the order of a causal attention, since coremltools 9.0 adds but -3e4 to a masked score.
A mask of numbers that hides no row stays.
"""

from collections.abc import Callable
from math import isfinite
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node
from torch.nn import functional

from edgepass.exporters._canonical._constants import Constants

ATEN = torch.ops.aten
BOUNDED = {"clamp", "sigmoid", "tanh", "hardtanh", "hardsigmoid", "softmax"}
LOWEST = torch.finfo(torch.float32).min / 2
"""Added to a masked score: below every score, and finite when added twice."""
LINEAR = {
    "add", "sub", "rsub", "mul", "neg", "view", "reshape", "unsqueeze", "squeeze", "expand", "slice", "select",
    "permute", "transpose", "to", "_to_copy", "contiguous", "clone", "cat", "flatten", "unflatten",
}  # fmt: skip
"""Operations, by name, that give no infinity where they are given none."""


def formula(node: Node, constants: Constants) -> Callable[..., Tensor] | None:
    """The guarded attention, where its mask is of bools or may hide a row, or is but told to be causal."""
    if node.target != ATEN.scaled_dot_product_attention.default:
        return None
    mask = node.args[3] if len(node.args) > 3 else node.kwargs.get("attn_mask")
    if not isinstance(mask, Node):
        causal = node.args[5] if len(node.args) > 5 else node.kwargs.get("is_causal", False)
        return _causal(*node.args[:2]) if causal else None
    if mask in constants.nodes:
        value = constants.value(mask)
        sound = value.is_floating_point() and bool(_shown(value).all())
        return None if sound else _guarded(value)
    return None if mask.meta["val"].is_floating_point() and _is_finite(mask, constants) else _guarded()


def _causal(query: Any, key: Any) -> Callable[..., Tensor] | None:
    """The attention under a mask of numbers, where its sizes are known."""
    queries, keys = (x.meta["val"].shape[-2] for x in (query, key))
    if not isinstance(queries, int) or not isinstance(keys, int):
        return None
    mask = torch.full((queries, keys), LOWEST).triu(1)

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: None = None,
        dropout_p: float = 0.0,
        is_causal: bool = True,
        **how: Any,
    ) -> Tensor:
        return functional.scaled_dot_product_attention(query, key, value, mask, dropout_p, **how)

    return attention


def _guarded(known: Tensor | None = None) -> Callable[..., Tensor]:
    """known: the mask's values, where it is constant; no converter is then left to compute with its infinities."""
    ready = None if known is None else _opened(known)
    hides = ready is None or not bool(ready[1].all())

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **how: Any,
    ) -> Tensor:
        mask, shown = ready or _opened(attn_mask)
        y = functional.scaled_dot_product_attention(query, key, value, mask, dropout_p, is_causal, **how)
        return y * shown.to(y.dtype) if hides else y

    return attention


def _opened(mask: Tensor) -> tuple[Tensor, Tensor]:
    """The mask in numbers, with rows opened that it hides whole; and [..., 1], which rows it does not."""
    shown = _shown(mask)
    whole = torch.logical_not(shown)
    if mask.dtype == torch.bool:
        hidden = torch.logical_not(torch.logical_or(mask, whole))
        return torch.zeros(mask.shape).masked_fill(hidden, LOWEST), shown
    return mask.masked_fill(whole, 0.0), shown


def _is_finite(node: Node, constants: Constants) -> bool:
    """Whether a mask that is computed can be seen to hold no infinity."""
    value = node.meta.get("val")
    if isinstance(value, Tensor) and not value.is_floating_point():
        return True
    if node in constants.nodes:
        return bool(torch.isfinite(constants.value(node)).all())
    name = str(node.target).removeprefix("aten.").partition(".")[0]
    if name in BOUNDED and (name != "clamp" or _bounds_below(node)):
        return True
    numbers = [a for a in (*node.args, *node.kwargs.values()) if isinstance(a, float)]
    return (
        name in LINEAR and all(map(isfinite, numbers)) and all(_is_finite(a, constants) for a in node.all_input_nodes)
    )


def _bounds_below(clamp: Node) -> bool:
    """Whether a clamp names its least, as a number that is one."""
    least = clamp.args[1] if len(clamp.args) > 1 else clamp.kwargs.get("min")
    return isinstance(least, int | float) and isfinite(least)


def _shown(mask: Tensor) -> Tensor:
    """[..., T] -> [..., 1]: whether the row shows any key. A maximum, since converters lack a reduction of bools."""
    if mask.dtype == torch.bool:
        return mask.float().amax(-1, keepdim=True) > 0
    return mask.amax(-1, keepdim=True) > -torch.inf
