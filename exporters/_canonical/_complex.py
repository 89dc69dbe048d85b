"""Complex tensors as pairs of real ones, since no file holds them.

    before   x ─ fft_rfft ─ (· w) ─ abs ─ y
    after    x ─ two products ─ real, imaginary ─ (· w, in four products) ─ sqrt(real² + imaginary²) ─ y

All of a program or nothing: where one operation has no formula on pairs, it stays as it is, and targets say what they
do not know.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import product
from operator import add, getitem, mul
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from edgepass.exporters._canonical import _fourier
from edgepass.exporters._canonical._constants import attribute, forget, register
from edgepass.exporters._canonical._fourier import Pair, pair

Formula = Callable[..., Any]
PART_BY_PART = {
    *("alias", "clone", "contiguous", "detach", "detach_", "lift_fresh", "lift_fresh_copy"),
    *("chunk", "split", "split_with_sizes", "unbind", "narrow", "select", "slice", "index", "index_select", "gather"),
    *("expand", "expand_as", "repeat", "tile", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "unfold"),
    *("movedim", "permute", "t", "transpose", "flip", "roll", "fft_fftshift", "fft_ifftshift", "cat", "stack", "where"),
    *("add", "add_", "copy_", "cumsum", "mean", "neg", "rsub", "sub", "sub_", "sum"),
}
"""Operations of which the real part is the same of the real parts, and the imaginary of the imaginary."""
MADE_REAL = {f"fft_{which}{over}" for which in ("irfft", "hfft") for over in ("", "2", "n")}
"""Transforms that give real numbers, and take those too."""
CREATING = {"empty", "empty_like", "full", "new_zeros", "new_ones", "ones", "ones_like", "zeros", "zeros_like"}
"""Operations that make a tensor out of a shape."""


def in_pairs(module: GraphModule) -> bool:
    """Put formulas on pairs into the graph of `module`, to be captured anew; whether there was any to put."""
    graphs = [m for m in module.modules() if isinstance(m, GraphModule)]
    found = [node for m in graphs for node in m.graph.nodes if _is_concerned(node)]
    formulas = {node: formula for node in found if (formula := _formula(node))}
    held = {node for node in found if node.op == "get_attr"}
    if not found or len(formulas) + len(held) < len(found):
        return False
    for inner in graphs:
        split = {str(node.target) for node in inner.graph.nodes if node in held}
        for node in list(inner.graph.nodes):
            if node in formulas:
                node.target = formulas[node]
            elif node in held:
                _split(inner, node)
        for name in split:
            forget(inner, name)
        inner.recompile()
    return True


def _is_concerned(node: Node) -> bool:
    """Whether it gives or takes complex numbers, or might."""
    return any(map(_is_complex, (node, *node.all_input_nodes))) or _name(node) in MADE_REAL


def _is_complex(node: Node) -> bool:
    values = pytree.tree_leaves(node.meta.get("val"))
    return any(isinstance(value, Tensor) and value.is_complex() for value in values)


def _split(module: GraphModule, node: Node) -> None:
    """Two attributes in the place of one."""
    whole = attribute(module, str(node.target))
    parts = torch.view_as_real(whole.detach().resolve_conj()).unbind(-1)
    with module.graph.inserting_before(node):
        got = []
        for word, part in zip(Pair._fields, parts, strict=True):
            register(module, f"{node.target}_{word}", part, like=whole)
            got.append(module.graph.get_attr(f"{node.target}_{word}"))
        node.replace_all_uses_with(module.graph.call_function(Pair, tuple(got)))
    module.graph.erase_node(node)


def _formula(node: Node) -> Formula | None:
    """What to call on pairs in the place of a node; None where that is not known."""
    if node.target is getitem:
        return getitem
    if not isinstance(node.target, OpOverload):
        return None
    name = _name(node)
    if name in PART_BY_PART:
        return _by_part(node.target)
    if name in CREATING:
        return _created(node.target, _is_complex(node))
    return OWN.get(name)


def _name(node: Node) -> str:
    """Of an operation of torch, without its overload."""
    return node.target._schema.name.removeprefix("aten::") if isinstance(node.target, OpOverload) else ""


def _by_part(operation: OpOverload) -> Formula:
    """The operation of each part; real numbers in the place of complex tensors have no imaginary part."""
    operands = [a.name == "other" or str(a.type) == "Tensor" for a in operation._schema.arguments]

    def formula(*args: Any, **kwargs: Any) -> Any:
        real, imaginary = (
            operation(
                *(_part(x, number, is_operand) for x, is_operand in zip(args, operands, strict=False)),
                **_floating(kwargs),
            )
            for number in (0, 1)
        )
        return Pair(real, imaginary) if isinstance(real, Tensor) else list(map(Pair, real, imaginary))

    return formula


def _part(value: Any, number: int, is_operand: bool) -> Any:
    """The real part of an argument, number 0, or the imaginary one; indices and sizes as they are."""
    if isinstance(value, Pair):
        return value[number]
    if isinstance(value, list) and any(isinstance(x, Pair) for x in value):
        return [_part(x, number, True) for x in value]
    if isinstance(value, Tensor):
        return torch.zeros_like(value) if number and value.is_floating_point() else value
    if is_operand and isinstance(value, int | float | complex):
        return complex(value).imag if number else complex(value).real
    return value


def _floating(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments with the type of one part in the place of a complex one."""
    dtype = kwargs.get("dtype")
    return kwargs | {"dtype": dtype.to_real()} if dtype is not None and dtype.is_complex else kwargs


def _created(operation: OpOverload, is_complex: bool) -> Formula:
    def formula(*args: Any, **kwargs: Any) -> Any:
        real = operation(*(x.real if isinstance(x, Pair | complex) else x for x in args), **_floating(kwargs))
        imaginary = [x.imag for x in args if isinstance(x, complex)]
        return Pair(real, torch.full_like(real, imaginary[0] if imaginary else 0)) if is_complex else real

    return formula


def _product(function: Callable[..., Tensor]) -> Formula:
    """What is linear in each of its operands."""

    def formula(*operands: Any) -> Pair:
        operands = tuple((x.real, x.imag) if isinstance(x, complex) else x for x in operands)
        parts: list[list[Tensor]] = [[], []]
        for which in product(*((0, 1) if isinstance(x, tuple) else (0,) for x in operands)):
            term = function(*(x[n] if isinstance(x, tuple) else x for x, n in zip(operands, which, strict=True)))
            turns = sum(which)  # i to this power
            parts[turns % 2].append(term if turns % 4 < 2 else -term)
        return Pair(*(reduce(add, terms) for terms in parts))

    return formula


def multiply(a: Any, b: Any) -> Pair:
    """The product, number by number."""
    found: Pair = _product(mul)(a, b)
    return found


def _einsum(equation: str, operands: Sequence[Any], **path: Any) -> Pair:
    found: Pair = _product(lambda *parts: torch.einsum(equation, *parts))(*operands)
    return found


def _divide(a: Any, b: Any) -> Any:
    if isinstance(b, Pair):
        return _divide(multiply(a, _conjugate(b)), b.real.square() + b.imaginary.square())
    if isinstance(b, complex):
        return multiply(a, 1 / b)
    return a.each(lambda part: part / b)


def _conjugate(x: Pair) -> Pair:
    return Pair(x.real, -x.imaginary)


def _magnitude(x: Pair) -> Tensor:
    return (x.real.square() + x.imaginary.square()).sqrt()


def _polar(magnitude: Tensor, angle: Tensor) -> Pair:
    return Pair(magnitude * angle.cos(), magnitude * angle.sin())


def _power(x: Pair, exponent: float) -> Pair:
    if exponent == 2:
        return multiply(x, x)
    return _polar(_magnitude(x) ** exponent, torch.atan2(x.imaginary, x.real) * exponent)


def _to(x: Any, *how: Any, **named: Any) -> Any:
    """Of the type that is named or that another has; how it lies in memory is no matter of values."""
    dtypes = (_dtype(value) for value in (*how, *named.values()))
    dtype = next((dtype for dtype in dtypes if dtype is not None), None)
    if dtype is None:
        return x
    made = pair(x).each(lambda part: part.to(dtype.to_real() if dtype.is_complex else dtype))
    return made if dtype.is_complex else made.real


def _dtype(value: Any) -> torch.dtype | None:
    if isinstance(value, Pair):
        return value.real.dtype.to_complex()
    value = value.dtype if isinstance(value, Tensor) else value
    return value if isinstance(value, torch.dtype) else None


def _pad(x: Pair, sizes: Sequence[int], *mode: Any) -> Pair:
    if mode and isinstance(mode[0], str) and mode[0] != "constant":
        return x.each(lambda part: torch.ops.aten.pad.default(part, sizes, *mode))
    value = mode[-1] if mode and not isinstance(mode[-1], str) else None
    return Pair(
        *(torch.nn.functional.pad(part, list(sizes), value=v) for part, v in zip(x, (value or 0, 0), strict=True))
    )


def _transformed(inverse: bool) -> Formula:
    def formula(x: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Pair:
        return _fourier.transform(x, n or _size(x, dim), dim, norm, inverse=inverse)

    return formula


def _over(inverse: bool, every: tuple[int, ...] | None = None) -> Formula:
    """Over `every` dimension, or all."""

    def formula(x: Any, s: Sequence[int] | None = None, dim: Any = every, norm: str | None = None) -> Any:
        for n, each in _sizes(x, s, dim):
            x = _fourier.transform(x, n, each, norm, inverse=inverse)
        return x

    return formula


def _halved(x: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Pair:
    return _fourier.half(x, n or x.shape[dim], dim, norm)


def _halved_over(every: tuple[int, ...] | None = None) -> Formula:
    def formula(x: Any, s: Sequence[int] | None = None, dim: Any = every, norm: str | None = None) -> Any:
        *others, (n, last) = _sizes(x, s, dim)
        y = _fourier.half(x, n, last, norm)
        for n, each in others:
            y = _fourier.transform(y, n, each, norm)
        return y

    return formula


def _made_whole(x: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    return _fourier.whole(x, n or 2 * (_size(x, dim) - 1), dim, norm)


def _made_whole_over(every: tuple[int, ...] | None = None) -> Formula:
    def formula(x: Any, s: Sequence[int] | None = None, dim: Any = every, norm: str | None = None) -> Any:
        *others, (n, last) = _sizes(x, s, dim)
        for size, each in others:
            x = _fourier.transform(x, size, each, norm, inverse=True)
        return _fourier.whole(x, n if s is not None else 2 * (n - 1), last, norm)

    return formula


def _conjugated(x: Any) -> Any:
    return _conjugate(x) if isinstance(x, Pair) else x


OTHERWISE = {None: "forward", "backward": "forward", "ortho": "ortho", "forward": "backward"}
"""The norm by which a transform is divided as its inverse is by the one given."""


def _hermitian(x: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    return _made_whole(_conjugated(x), n, dim, OTHERWISE[norm])


def _hermitian_over(every: tuple[int, ...] | None = None) -> Formula:
    whole = _made_whole_over(every)

    def formula(x: Any, s: Sequence[int] | None = None, dim: Any = every, norm: str | None = None) -> Any:
        return whole(_conjugated(x), s, dim, OTHERWISE[norm])

    return formula


def _half_of_hermitian(x: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Pair:
    return _conjugate(_halved(x, n, dim, OTHERWISE[norm]))


def _half_of_hermitian_over(every: tuple[int, ...] | None = None) -> Formula:
    half = _halved_over(every)

    def formula(x: Any, s: Sequence[int] | None = None, dim: Any = every, norm: str | None = None) -> Any:
        return _conjugate(half(x, s, dim, OTHERWISE[norm]))

    return formula


def _size(x: Any, dim: int) -> int:
    size: int = (x.real if isinstance(x, Pair) else x).shape[dim]
    return size


def _sizes(x: Any, s: Sequence[int] | None, dims: Sequence[int] | None) -> list[tuple[int, int]]:
    """The length along each dimension of a transform over several, and the dimension."""
    rank = (x.real if isinstance(x, Pair) else x).dim()
    dims = range(-(rank if s is None else len(s)), 0) if dims is None else dims
    lengths = [-1] * len(dims) if s is None else s
    return [(_size(x, dim) if n == -1 else n, dim) for n, dim in zip(lengths, dims, strict=True)]


PLANE = (-2, -1)
OWN: dict[str, Formula] = {
    "real": lambda x: x.real,
    "imag": lambda x: x.imaginary,
    "view_as_real": lambda x: torch.stack(x, -1),
    "view_as_complex": lambda x: Pair(*(x.select(-1, number) for number in (0, 1))),
    "complex": lambda real, imaginary: Pair(*torch.broadcast_tensors(real, imaginary)),
    "polar": _polar,
    "abs": _magnitude,
    "angle": lambda x: torch.atan2(x.imaginary, x.real),
    **dict.fromkeys(("_conj", "conj", "conj_physical"), _conjugate),
    **dict.fromkeys(("resolve_conj", "resolve_neg"), lambda x: x),
    **dict.fromkeys(("view", "_unsafe_view"), lambda x, size: x.each(lambda part: part.reshape(size))),
    **dict.fromkeys(("to", "_to_copy"), _to),
    "_assert_tensor_metadata": lambda *seen, **said: None,  # of what is a pair now
    **dict.fromkeys(("pad", "constant_pad_nd"), _pad),
    "mul": multiply,
    "div": _divide,
    "square": lambda x: multiply(x, x),
    "pow": _power,
    "reciprocal": lambda x: _divide(pair(torch.ones_like(x.real)), x),
    "exp": lambda x: _polar(x.real.exp(), x.imaginary),
    **dict.fromkeys(("matmul", "mm", "bmm", "mv"), _product(torch.matmul)),
    "einsum": _einsum,
    "fft_fft": _transformed(inverse=False),
    "fft_ifft": _transformed(inverse=True),
    "fft_fft2": _over(False, PLANE),
    "fft_ifft2": _over(True, PLANE),
    "fft_fftn": _over(False),
    "fft_ifftn": _over(True),
    "fft_rfft": _halved,
    "fft_rfft2": _halved_over(PLANE),
    "fft_rfftn": _halved_over(),
    "fft_irfft": _made_whole,
    "fft_irfft2": _made_whole_over(PLANE),
    "fft_irfftn": _made_whole_over(),
    "fft_hfft": _hermitian,
    "fft_hfft2": _hermitian_over(PLANE),
    "fft_hfftn": _hermitian_over(),
    "fft_ihfft": _half_of_hermitian,
    "fft_ihfft2": _half_of_hermitian_over(PLANE),
    "fft_ihfftn": _half_of_hermitian_over(),
    "stft": _fourier.frames,
    "istft": _fourier.joined,
}
"""By name, what is computed of pairs, with the arguments of the operation."""
