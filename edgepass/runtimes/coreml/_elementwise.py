"""Core ML operations that work element by element: arithmetic, comparison, activations, casts.

Formulas are those of the operation's documentation in coremltools. In fp16 the operation works in fp32 and its
result is rounded once.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from edgepass.runtimes.coreml._node import HANDLERS, Build, Node, Run, handles

Unary = Callable[[Tensor], Tensor]
Binary = Callable[[Tensor, Tensor], Tensor]


def _unary(function: Unary) -> Build:
    def build(node: Node) -> Run:
        if node.half:
            return lambda x: function(x.float())
        return lambda x: function(x)

    return build


def _binary(function: Binary) -> Build:
    # torch computes these in fp32 and rounds once when both are fp16.
    return lambda node: lambda x, y: function(x, y)


def _wide_binary(function: Binary) -> Build:
    def build(node: Node) -> Run:
        if node.half:
            return lambda x, y: function(x.float(), y.float())
        return lambda x, y: function(x, y)

    return build


def _divide(x: Tensor, y: Tensor) -> Tensor:
    return torch.true_divide(x, y) if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


_UNARY: dict[str, Unary] = {
    "abs": torch.abs,
    "acos": torch.acos,
    "asin": torch.asin,
    "atan": torch.atan,
    "atanh": torch.atanh,
    "ceil": torch.ceil,
    "cos": torch.cos,
    "cosh": torch.cosh,
    "erf": torch.erf,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "floor": torch.floor,
    "identity": lambda x: x,
    "logical_not": torch.logical_not,
    "relu": torch.relu,
    "relu6": F.relu6,
    "round": torch.round,
    "sigmoid": torch.sigmoid,
    "sign": torch.sign,
    "silu": F.silu,
    "sin": torch.sin,
    "sinh": torch.sinh,
    "softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
    "softsign": F.softsign,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "tan": torch.tan,
    "tanh": torch.tanh,
}
_BINARY: dict[str, Binary] = {
    "add": torch.add,
    "equal": torch.eq,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "mul": torch.mul,
    "not_equal": torch.ne,
    "real_div": _divide,
    "sub": torch.sub,
}
_WIDE_BINARY: dict[str, Binary] = {"floor_div": torch.floor_divide, "mod": torch.remainder, "pow": torch.pow}

HANDLERS.update({kind: _unary(f) for kind, f in _UNARY.items()})
HANDLERS.update({kind: _binary(f) for kind, f in _BINARY.items()})
HANDLERS.update({kind: _wide_binary(f) for kind, f in _WIDE_BINARY.items()})


@handles("log", "rsqrt", "inverse")
def _with_epsilon(node: Node) -> Run:
    function = {"log": torch.log, "rsqrt": torch.rsqrt, "inverse": torch.reciprocal}[node.kind]
    epsilon = node.get("epsilon", 0.0)
    return _unary(lambda x: function(x + epsilon))(node)


@handles(
    "clamped_relu",
    "clip",
    "elu",
    "leaky_relu",
    "linear_activation",
    "scaled_tanh",
    "sigmoid_hard",
    "threshold",
    "thresholded_relu",
)
def _with_constants(node: Node) -> Run:
    a, b = node.get("alpha", 0.0), node.get("beta", 0.0)
    functions: dict[str, Unary] = {
        "clamped_relu": lambda x: torch.where(x >= 0, x, x * a).clamp(max=b),
        "clip": lambda x: x.clamp(a, b),
        "elu": lambda x: F.elu(x, a),
        "leaky_relu": lambda x: F.leaky_relu(x, a),
        "linear_activation": lambda x: x * a + b,
        "scaled_tanh": lambda x: a * torch.tanh(b * x),
        "sigmoid_hard": lambda x: (x * a + b).clamp(0.0, 1.0),
        "threshold": lambda x: x.clamp(min=a),
        "thresholded_relu": lambda x: torch.where(x >= a, x, torch.zeros_like(x)),
    }
    return _unary(functions[node.kind])(node)


@handles("prelu", "softplus_parametric")
def _per_channel(node: Node) -> Run:
    def channels(name: str) -> Tensor:
        value = node.tensor(name)
        assert value is not None
        return value.reshape([-1 if d == 1 else 1 for d in range(node.ranks["x"])])

    a = channels("alpha")
    if node.kind == "prelu":
        return _unary(lambda x: torch.where(x > 0, x, x * a))(node)
    b = channels("beta")
    return _unary(lambda x: a * torch.logaddexp(x * b, torch.zeros_like(x)))(node)


@handles("gelu")
def _gelu(node: Node) -> Run:
    functions: dict[str, Unary] = {
        "EXACT": F.gelu,
        "TANH_APPROXIMATION": lambda x: F.gelu(x, approximate="tanh"),
        "SIGMOID_APPROXIMATION": lambda x: x * torch.sigmoid(1.702 * x),
    }
    return _unary(functions[node.get("mode", "EXACT")])(node)


@handles("cast")
def _cast(node: Node) -> Run:
    # Every result is converted to its declared type anyway: floats truncate towards zero, non-zeros are true.
    return lambda x: x


@handles("select")
def _select(node: Node) -> Run:
    return lambda cond, a, b: torch.where(cond, a, b)
