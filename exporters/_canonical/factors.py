"""A factor that an operation takes beside its operands, as a product.

    before   x, y ─ sub(alpha a) ─ z                    after   y ─ (· a) ─ ┐
                                                                x ───────── (-) ─ z

coremltools 9.0 drops `alpha` of a quantised subtraction without a word, and has no addcmul.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from edgepass.exporters._canonical._constants import Constants

ATEN = torch.ops.aten
Number = float | int


def _sum(x: Tensor, other: Tensor | Number, alpha: Number = 1) -> Tensor:
    return x + other * alpha


def _difference(x: Tensor, other: Tensor | Number, alpha: Number = 1) -> Tensor:
    return x - other * alpha


def _reversed(x: Tensor, other: Tensor | Number, alpha: Number = 1) -> Tensor:
    return other - x * alpha


def _sum_in_place(x: Tensor, other: Tensor | Number, alpha: Number = 1) -> Tensor:
    return x.add_(other * alpha)


def _difference_in_place(x: Tensor, other: Tensor | Number, alpha: Number = 1) -> Tensor:
    return x.sub_(other * alpha)


def _with_product(product: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """beta x + alpha product(a, b); at beta 0, x counts for nothing, NaN in it included."""

    def formula(x: Tensor, a: Tensor, b: Tensor, *, beta: Number = 1, alpha: Number = 1) -> Tensor:
        y = product(a, b)
        y = y if alpha == 1 else y * alpha
        return y if beta == 0 else y + (x if beta == 1 else x * beta)

    return formula


def _add_product(x: Tensor, a: Tensor, b: Tensor, *, value: Number = 1) -> Tensor:
    return x + (a * b if value == 1 else a * b * value)


def _add_quotient(x: Tensor, a: Tensor, b: Tensor, *, value: Number = 1) -> Tensor:
    return x + (a / b if value == 1 else a / b * value)


FACTORED: dict[Any, Callable[..., Tensor]] = {
    ATEN.add.Tensor: _sum,
    ATEN.add.Scalar: _sum,
    ATEN.add_.Tensor: _sum_in_place,
    ATEN.add_.Scalar: _sum_in_place,
    ATEN.sub.Tensor: _difference,
    ATEN.sub.Scalar: _difference,
    ATEN.sub_.Tensor: _difference_in_place,
    ATEN.sub_.Scalar: _difference_in_place,
    ATEN.rsub.Tensor: _reversed,
    ATEN.rsub.Scalar: _reversed,
    ATEN.addmm.default: _with_product(torch.mm),
    ATEN.baddbmm.default: _with_product(torch.bmm),
}
ALWAYS: dict[Any, Callable[..., Tensor]] = {
    ATEN.addcmul.default: _add_product,
    ATEN.addcdiv.default: _add_quotient,
    ATEN.addmv.default: _with_product(torch.mv),
    ATEN.addr.default: _with_product(torch.outer),
    ATEN.addbmm.default: _with_product(lambda a, b: torch.bmm(a, b).sum(0)),
}


def formula(node: Node, constants: Constants) -> Callable[..., Tensor] | None:
    """The sum with its factor as a product, where there is one."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or _is_bool(node):
        return None
    arguments = dict(zip((a.name for a in schema.arguments), node.args, strict=False)) | node.kwargs
    factored = any(arguments.get(name, 1) != 1 for name in ("alpha", "beta"))
    return (FACTORED if factored else ALWAYS).get(node.target) or ALWAYS.get(node.target)


def _is_bool(node: Node) -> bool:
    """A sum of truth values is one, which no product of them with a number is."""
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.dtype == torch.bool
