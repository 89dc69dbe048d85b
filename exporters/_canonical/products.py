"""A product with a weight, however it is written, as the operation that quantisers know: a linear layer.

    before   x ─ matmul(W) ─ y                   after   x ─ linear(Wᵀ) ─ y
    before   x ─ einsum("bnc,cd->bnd", W) ─ y    after   x ─ linear(Wᵀ) ─ y          any letters, any order

Products with a matrix for each member of a batch stay as they are: no quantiser has them per channel.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node
from torch.nn import functional

from edgepass.exporters._canonical._constants import Constants

ATEN = torch.ops.aten


def formula(node: Node, constants: Constants) -> Callable[..., Tensor] | None:
    """The linear layer, where one factor is a weight and the other is not."""
    match node.target:
        case ATEN.matmul.default | ATEN.mm.default | ATEN.mv.default:
            a, b = node.args[:2]
            if constants.is_weight(b) and not constants.is_weight(a) and _is_matrix(b):
                return _times_weight
            if constants.is_weight(a) and not constants.is_weight(b) and _is_matrix(a):
                return _weight_times
        case ATEN.addmm.default:
            if constants.is_weight(node.args[2]) and not constants.is_weight(node.args[1]):
                return _plus_times_weight
        case ATEN.addmv.default:
            if constants.is_weight(node.args[1]) and not constants.is_weight(node.args[2]):
                return _plus_weight_times
        case ATEN.einsum.default:
            equation, operands = node.args[:2]
            weights = [constants.is_weight(operand) for operand in operands]  # type: ignore[union-attr]  # a list
            if weights in ([True, False], [False, True]):
                shapes = [operand.meta["val"].shape for operand in operands]  # type: ignore[union-attr]
                return _einsum(str(equation), shapes, weights.index(True))
        case ATEN.tensordot.default:
            weights = [constants.is_weight(operand) for operand in node.args[:2]]
            if weights in ([True, False], [False, True]):
                return _tensordot(weights.index(True))
    return None


def _is_matrix(node: Any) -> bool:
    """Whether a weight is one matrix or vector, whatever dimensions of one it has before."""
    return bool(prod(node.meta["val"].shape[:-2]) == 1)


def _times_weight(x: Tensor, weight: Tensor) -> Tensor:
    if weight.dim() == 1:
        return functional.linear(x, weight[None]).squeeze(-1)
    y = functional.linear(x, weight.reshape(weight.shape[-2:]).T)
    if x.dim() == 1:
        return y.reshape(*weight.shape[:-2], weight.shape[-1])
    return y if x.dim() >= weight.dim() else y.reshape(*weight.shape[: weight.dim() - x.dim()], *y.shape)


def _weight_times(weight: Tensor, x: Tensor) -> Tensor:
    if x.dim() == 1:
        y = functional.linear(x, weight.reshape(-1, weight.shape[-1]))
        return y.reshape(weight.shape[:-1])
    if weight.dim() == 1:
        return functional.linear(x.mT, weight[None]).squeeze(-1)
    y = functional.linear(x.mT, weight.reshape(weight.shape[-2:])).mT
    return y if x.dim() >= weight.dim() else y.reshape(*weight.shape[: weight.dim() - x.dim()], *y.shape)


def _plus_times_weight(bias: Tensor, x: Tensor, weight: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    if bias.dim() == 1 and len(bias) == weight.shape[1] and beta == alpha == 1:
        return functional.linear(x, weight.T, bias)
    return _plus(bias, functional.linear(x, weight.T), beta, alpha)


def _plus_weight_times(bias: Tensor, weight: Tensor, x: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    return _plus(bias, _weight_times(weight, x), beta, alpha)


def _plus(bias: Tensor, y: Tensor, beta: float, alpha: float) -> Tensor:
    y = y if alpha == 1 else y * alpha
    return y if beta == 0 else y + (bias if beta == 1 else bias * beta)


def _einsum(equation: str, shapes: Sequence[Sequence[int]], at: int) -> Callable[..., Tensor] | None:
    """`equation` of an operand and a weight, the `at`-th; None where it is not one product with a matrix."""
    letters = _letters(equation, [len(shape) for shape in shapes])
    if letters is None:
        return None
    (*terms, out) = letters
    w, x = terms[at], terms[1 - at]
    summed = [c for c in x if c in w and c not in out]
    given = [c for c in x if c not in w]
    made = [c for c in w if c not in x]
    repeated = any(len(set(term)) < len(term) for term in letters)
    together = any(c in out for c in x if c in w)
    lost = any(c not in out for c in (*given, *made))
    stretched = any(shapes[at][w.index(c)] != shapes[1 - at][x.index(c)] for c in summed)
    if repeated or together or lost or stretched or not summed:
        return None

    def formula(equation: str, operands: Sequence[Tensor], **path: Any) -> Tensor:
        weight, value = operands[at], operands[1 - at]
        sizes = [weight.shape[w.index(c)] for c in made]
        matrix = _permuted(weight, w, [*made, *summed]).reshape(prod(sizes), -1)
        value = _permuted(value, x, [*given, *summed])
        lead = value.shape[: len(given)]
        y = functional.linear(_shaped(value, [*lead, matrix.shape[1]]), matrix)
        return _permuted(_shaped(y, [*lead, *sizes]), [*given, *made], out)

    return formula


def _permuted(x: Tensor, letters: Sequence[str], order: Sequence[str]) -> Tensor:
    return x if list(order) == list(letters) else x.permute([letters.index(c) for c in order])


def _shaped(x: Tensor, shape: Sequence[int]) -> Tensor:
    return x if len(shape) == x.dim() else x.reshape(shape)


def _letters(equation: str, ranks: Sequence[int]) -> list[str] | None:
    """The letters of each operand and of the result, an ellipsis spelt out; None where there is no telling."""
    equation = equation.replace(" ", "")
    left, arrow, out = equation.partition("->")
    terms = left.split(",")
    used = {c for c in equation if c.isalpha()}
    free = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in used]
    spelt = [free[: rank - len(term.replace("...", ""))] for term, rank in zip(terms, ranks, strict=True)]
    widths = [len(letters) if "..." in term else 0 for term, letters in zip(terms, spelt, strict=True)]
    most = max(widths)
    every = "".join(free[:most])
    terms = [term.replace("...", every[most - width :]) for term, width in zip(terms, widths, strict=True)]
    if not arrow:
        counted = "".join(terms)
        out = every + "".join(sorted(c for c in used if counted.count(c) == 1))
    return [*terms, out.replace("...", every)]


def _tensordot(at: int) -> Callable[..., Tensor]:
    def formula(a: Tensor, b: Tensor, dims_a: Sequence[int], dims_b: Sequence[int]) -> Tensor:
        first = [chr(ord("a") + i) for i in range(a.dim())]
        second = [chr(ord("A") + i) for i in range(b.dim())]
        for i, j in zip(dims_a, dims_b, strict=True):
            second[j % b.dim()] = first[i % a.dim()]
        out = [c for c in (*first, *second) if (c in first) != (c in second)]
        equation = f"{''.join(first)},{''.join(second)}->{''.join(out)}"
        made = _einsum(equation, [a.shape, b.shape], at)
        return torch.einsum(equation, a, b) if made is None else made(equation, [a, b])

    return formula
