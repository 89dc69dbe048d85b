"""The weights of a model as its own graphs have them: what the weights of a file are held against.

A converter may multiply what follows a layer, or comes before it, into its weight: (x W) g, with g the gain of a batch
norm, is x (W g), and (16 x) W is x (16 W). A transposed convolution without strides is a convolution whose kernel is
mirrored. All are right, so a weight has several forms.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import GraphModule, Node

from edgepass.quantize import tables
from edgepass.quantize.pt2e import ATEN, CONVOLUTIONS, PRODUCTS, module_path
from edgepass.quantize.recipe import Recipe

Array = NDArray[np.float32]

KERNELS = {
    ATEN.conv1d.default: "OIW",
    ATEN.conv2d.default: "OIHW",
    ATEN.conv3d.default: "OIDHW",
    ATEN.conv_transpose1d.default: "IOW",
    ATEN.conv_transpose2d.input: "IOHW",
    ATEN.conv_transpose3d.input: "IODHW",
}
MOVES = {
    ATEN.view.default, ATEN.reshape.default, ATEN.transpose.int, ATEN.permute.default, ATEN.unsqueeze.default,
    ATEN.squeeze.dim, ATEN.squeeze.dims, ATEN.clone.default, ATEN.contiguous.default, ATEN.flatten.using_ints,
    ATEN.alias.default, ATEN.dropout.default,
}  # fmt: skip
"""Operations that change no value: what multiplies behind them multiplies before them."""


@dataclass(frozen=True, kw_only=True)
class Stated:
    """A weight as the model has it.

    `layout`: a letter for each dimension: O outputs, I inputs (of one group), D H W the kernel, V rows of an embedding.
    `forms`: its values, those times what follows, these times what comes before, and all of them mirrored.
    `quantised`: what the recipe's own graph computes with; None where that leaves the weight as it is, or where a
    converter quantises by itself.
    `rows`: the integers of a table, which stand for themselves in a file; their steps are another constant there.
    """

    name: str
    layout: str
    forms: tuple[Array, ...]
    quantised: Array | None = None
    rows: Array | None = None


def stated(module: GraphModule) -> list[Stated]:
    """The weights of linear layers, convolutions, products and embeddings in a float graph, once each."""
    found: dict[str, Stated] = {}
    for node, weight, layout in _read(module):
        name, value = _constant(module, weight)
        if value is None or name in found or value.dim() != len(layout) or not value.is_floating_point():
            continue
        forms = [value]
        for factor in _factors(module, node, value.shape[layout.index("O")]) if "O" in layout else ():
            along = [-1 if letter == "O" else 1 for letter in layout]
            forms.append(forms[-1] * (factor.reshape(along) if factor.numel() > 1 else factor.reshape(())))
        after, before = list(forms), torch.ones(())
        for factor in _before(module, node, weight, value.shape[layout.index("I")]) if "O" in layout else ():
            along = [-1 if letter == "I" else 1 for letter in layout]
            before = before * (factor.reshape(along) if factor.numel() > 1 else factor.reshape(()))
            forms += [form * before for form in after]
        if layout.startswith("IO") and len(layout) > 2:
            forms += [form.flip(tuple(range(2, len(layout)))) for form in forms]
        found[name] = Stated(name=name, layout=layout, forms=tuple(_array(form) for form in forms))
    return list(found.values())


def quantised(weights: Sequence[Stated], module: GraphModule) -> list[Stated]:
    """The same with what `module` computes with: the graph of a recipe, its weights not folded.

    The steps of a table's rows are a weight of their own.
    """
    values: dict[str, Array] = {}
    rows: dict[str, Array] = {}
    steps: list[Stated] = []
    for _, weight, layout in _read(module):
        name, value = _constant(module, weight)
        if value is None:
            continue
        if "dequantize" in str(weight.target):
            values.setdefault(name, _array(value))
        elif name.endswith(tables.ROWS):
            rows[name.removesuffix(tables.ROWS)] = _array(value)
        elif name.endswith(tables.STEPS):
            steps.append(Stated(name=name, layout=layout, forms=(_array(value),)))
    for table in steps:
        name = table.name.removesuffix(tables.STEPS)
        values.setdefault(name, rows[name] * table.forms[0])
    made = (replace(weight, quantised=values.get(weight.name), rows=rows.get(weight.name)) for weight in weights)
    return [*made, *steps]


def in_float(module: GraphModule, recipe: Recipe) -> list[Array]:
    """What the recipe leaves in float of all that operations read as a weight.

    That is what modules read that are kept, and tables: the buffers of a model, and what they decide. A format's own
    quantiser knows of neither.
    """
    weights = dict(module.named_parameters())
    found: list[Array] = []
    for node, weight, _ in _read(module):
        name, value = _constant(module, weight)
        if value is None or value.dim() < 2:
            continue
        if recipe.keeps(module_path(node)) or (name not in weights and node.target in PRODUCTS):
            found.append(_array(value))
    return found


def same(values: Array, others: Iterable[Array]) -> bool:
    """Whether `values` are those of one of the others, in whatever order of dimensions."""
    mine = np.sort(values, axis=None)
    return any(values.size == other.size and np.array_equal(mine, np.sort(other, axis=None)) for other in others)


def _read(module: GraphModule) -> Iterator[tuple[Node, Node, str]]:
    """Operations with what they read as a weight and its layout; whether that is a constant is not asked."""
    for node in module.graph.nodes:
        at, layout = 1, KERNELS.get(node.target, "")
        match node.target:
            case ATEN.linear.default:
                layout = "OI"
            case ATEN.matmul.default | ATEN.mm.default:
                layout = "IO"
                if isinstance(node.args[0], Node) and node.args[0].op == "get_attr":
                    at, layout = 0, "OI"
            case ATEN.addmm.default:
                at, layout = 2, "IO"
            case ATEN.embedding.default:
                at, layout = 0, "VI"
            case ATEN.convolution.default:
                layout = ("IO" if node.args[6] else "OI") + "DHW"[3 - len(node.args[3]) :]
            case _:
                pass
        if layout and isinstance(node.args[at], Node):
            yield node, node.args[at], layout


def _constant(module: GraphModule, node: Node) -> tuple[str, Tensor | None]:
    """The name of the weight that a node computes from constants alone, and its value; None where it takes more."""
    names: list[str] = []

    def value(of: Any) -> Any:
        if not isinstance(of, Node):
            return [value(item) for item in of] if isinstance(of, list | tuple) else of
        if of.op == "get_attr":
            names.append(str(of.target))
            return attrgetter(str(of.target))(module)
        if of.op != "call_function" or not callable(of.target) or not of.all_input_nodes:
            raise LookupError(of.name)
        return of.target(*[value(a) for a in of.args], **{k: value(v) for k, v in of.kwargs.items()})

    try:
        with torch.no_grad():
            result = value(node)
    except MemoryError:
        raise
    except Exception:  # any operation may be called here, and alone with constants it may raise anything
        return "", None
    own = [name for name in names if not name.rpartition(".")[2].startswith("_")]
    name = own[0] if own else f"{module_path(node)}.weight".removeprefix(".")
    return name, result.detach() if isinstance(result, Tensor) else None


def _factors(module: GraphModule, node: Node, outputs: int) -> Iterator[Tensor]:
    """What multiplies the result of an operation, one number or one for each output, in the order of the graph."""
    while len(node.users) == 1:
        (user,) = node.users
        x, *rest = user.args or (None,)
        other = rest[0] if x is node and rest else x
        match user.target:
            case ATEN.batch_norm.default:
                gain = _gain(module, user)
                if gain is None:
                    return
                yield gain
            case ATEN.mul.Tensor | ATEN.mul.Scalar | ATEN.div.Tensor | ATEN.div.Scalar:
                value = _number(module, other)
                if value is None or value.numel() not in (1, outputs) or (x is not node and "div" in str(user.target)):
                    return
                yield 1 / value if "div" in str(user.target) else value
            case ATEN.scaled_dot_product_attention.default if node in user.args[:2]:
                width = node.meta["val"].shape[-1]
                scale = float(user.kwargs.get("scale") or width**-0.5)  # type: ignore[arg-type]  # a number, if there
                yield from (torch.tensor(abs(scale) ** 0.5),) * 2  # its root to queries and keys each, or all to either
                return
            case ATEN.neg.default:
                yield torch.tensor(-1.0)
            case ATEN.add.Tensor | ATEN.sub.Tensor if _number(module, other) is not None:
                pass
            case target if target in MOVES:
                pass
            case _:
                return
        node = user


def _before(module: GraphModule, node: Node, weight: Node, inputs: int) -> Iterator[Tensor]:
    """What multiplies what an operation reads beside its weight, one number or one for each input, the nearest first.

    The gain of a norm does: W (g n) is (W g) n.
    """
    second = node.target is ATEN.addmm.default or node.args[0] is weight
    read = node.args[1 if second else 0]
    while isinstance(read, Node):
        x, *rest = read.args or (None,)
        match read.target:
            case ATEN.mul.Tensor | ATEN.mul.Scalar | ATEN.div.Tensor | ATEN.div.Scalar:
                divides = "div" in str(read.target)
                number = _number(module, rest[0])
                if number is None and not divides:
                    number, x = _number(module, x), rest[0]
                if number is None or number.numel() not in (1, inputs):
                    return
                yield 1 / number if divides else number
            case ATEN.batch_norm.default:
                gain = _gain(module, read)
                along = node.target in CONVOLUTIONS or read.meta["val"].dim() == 2  # its channels are what is summed
                if gain is None or gain.numel() != inputs or not along:
                    return
                yield gain
            case ATEN.layer_norm.default | ATEN.rms_norm.default:
                gain = _number(module, rest[1]) if len(rest) > 1 else None
                if gain is not None and gain.numel() == inputs:
                    yield gain
                return
            case ATEN.neg.default:
                yield torch.tensor(-1.0)
            case ATEN.add.Tensor | ATEN.sub.Tensor if rest and _number(module, rest[0]) is not None:
                pass  # W (s n + b) is (W s) n + W b
            case target if target in MOVES:
                pass
            case _:
                return
        read = x


def _gain(module: GraphModule, norm: Node) -> Tensor | None:
    """What a batch norm multiplies each channel by."""
    gain, variance = (_number(module, norm.args[i]) for i in (1, 4))
    epsilon = norm.args[7]
    if variance is None or not isinstance(epsilon, float):
        return None
    return (torch.ones(()) if gain is None else gain) / torch.sqrt(variance + epsilon)


def _number(module: GraphModule, value: Any) -> Tensor | None:
    if isinstance(value, int | float):
        return torch.tensor(float(value))
    constant = _constant(module, value)[1] if isinstance(value, Node) else None
    return constant if constant is not None and constant.is_floating_point() else None


def _array(value: Tensor) -> Array:
    array: Array = value.detach().float().contiguous().numpy()
    return array
