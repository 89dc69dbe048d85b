"""Core ML's operations of one element and another are torch's."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from edgepass.runtimes.coreml._file import quiet

with quiet():
    from coremltools.converters.mil.mil import Builder as mb
from runtime_tests.runtimes.coreml.operations import COREMLTOOLS_WARNS, PRECISIONS, Build, check, floats, integers

pytestmark = COREMLTOOLS_WARNS


UNARY: dict[str, tuple[Callable[..., Any], float, float]] = {
    "abs": (torch.abs, -3, 3),
    "acos": (torch.acos, -0.9, 0.9),
    "asin": (torch.asin, -0.9, 0.9),
    "atan": (torch.atan, -3, 3),
    "atanh": (torch.atanh, -0.9, 0.9),
    "ceil": (torch.ceil, -3, 3),
    "cos": (torch.cos, -3, 3),
    "cosh": (torch.cosh, -2, 2),
    "erf": (torch.erf, -3, 3),
    "exp": (torch.exp, -3, 3),
    "exp2": (torch.exp2, -3, 3),
    "floor": (torch.floor, -3, 3),
    "identity": (lambda x: x, -3, 3),
    "relu": (torch.relu, -3, 3),
    "relu6": (F.relu6, -9, 9),
    "round": (torch.round, -3, 3),
    "sigmoid": (torch.sigmoid, -9, 9),
    "sign": (torch.sign, -3, 3),
    "silu": (F.silu, -9, 9),
    "sin": (torch.sin, -3, 3),
    "sinh": (torch.sinh, -2, 2),
    "softplus": (F.softplus, -9, 9),
    "softsign": (F.softsign, -9, 9),
    "sqrt": (torch.sqrt, 0.1, 9),
    "square": (torch.square, -3, 3),
    "tan": (torch.tan, -1, 1),
    "tanh": (torch.tanh, -3, 3),
}


@PRECISIONS
@pytest.mark.parametrize("kind", UNARY)
def test_unary_operations_are_torchs(kind: str, dtype: str) -> None:
    function, low, high = UNARY[kind]
    check(lambda x: getattr(mb, kind)(x=x), function, floats(2, 7, low=low, high=high, dtype=dtype), ulps=4)


@PRECISIONS
@pytest.mark.parametrize(
    ("kind", "function"),
    [
        ("log", lambda x: torch.log(x + 0.5)),
        ("rsqrt", lambda x: torch.rsqrt(x + 0.5)),
        ("inverse", lambda x: 1 / (x + 0.5)),
    ],
)
def test_epsilon_is_added_first(kind: str, function: Build, dtype: str) -> None:
    epsilon = np.dtype(dtype).type(0.5)
    check(lambda x: getattr(mb, kind)(x=x, epsilon=epsilon), function, floats(63, low=0.1, dtype=dtype), ulps=4)


@PRECISIONS
@pytest.mark.parametrize(
    ("kind", "function"),
    [
        ("clamped_relu", lambda x: torch.where(x >= 0, x, 0.5 * x).clamp(max=1.25)),
        ("clip", lambda x: x.clamp(0.5, 1.25)),
        ("elu", lambda x: F.elu(x, 0.5)),
        ("leaky_relu", lambda x: F.leaky_relu(x, 0.5)),
        ("linear_activation", lambda x: 0.5 * x + 1.25),
        ("scaled_tanh", lambda x: 0.5 * torch.tanh(1.25 * x)),
        ("sigmoid_hard", lambda x: (0.5 * x + 1.25).clamp(0, 1)),
        ("threshold", lambda x: x.clamp(min=0.5)),
        ("thresholded_relu", lambda x: torch.where(x >= 0.5, x, 0.0)),
    ],
)
def test_activations_with_constants(kind: str, function: Build, dtype: str) -> None:
    one = np.dtype(dtype).type
    both = {"clamped_relu", "clip", "linear_activation", "scaled_tanh", "sigmoid_hard"}
    constants = {"alpha": one(0.5)} | ({"beta": one(1.25)} if kind in both else {})
    check(lambda x: getattr(mb, kind)(x=x, **constants), function, floats(3, 21, dtype=dtype), ulps=4)


@PRECISIONS
@pytest.mark.parametrize("mode", ["EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"])
def test_gelu_in_its_three_forms(mode: str, dtype: str) -> None:
    functions = {
        "EXACT": F.gelu,
        "TANH_APPROXIMATION": lambda x: F.gelu(x, approximate="tanh"),
        "SIGMOID_APPROXIMATION": lambda x: x * torch.sigmoid(1.702 * x),
    }
    check(lambda x: mb.gelu(x=x, mode=mode), functions[mode], floats(63, dtype=dtype), ulps=4)


@PRECISIONS
def test_channels_have_their_own_slopes(dtype: str) -> None:
    a, b = floats(3, low=0.1, dtype=dtype), floats(3, low=0.1, dtype=dtype)
    x = floats(2, 3, 5, 1, dtype=dtype)
    a_64, b_64 = (torch.tensor(v.astype(np.float64)).reshape(1, 3, 1, 1) for v in (a, b))
    check(lambda x: mb.prelu(x=x, alpha=a), lambda x: torch.where(x > 0, x, x * a_64), x)
    parametric = lambda x: a_64 * torch.log1p(torch.exp(b_64 * x))  # noqa: E731
    check(lambda x: mb.softplus_parametric(x=x, alpha=a, beta=b), parametric, x, ulps=4)


BINARY = {
    "add": torch.add,
    "floor_div": torch.floor_divide,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "mod": torch.remainder,
    "mul": torch.mul,
    "real_div": torch.true_divide,
    "sub": torch.sub,
}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shapes", [((2, 5), (2, 5)), ((3, 1, 7), (1, 4, 1)), ((7,), (2, 7))])
@pytest.mark.parametrize("kind", BINARY)
def test_binary_operations_broadcast(kind: str, shapes: tuple[tuple[int, ...], ...], dtype: str) -> None:
    x, y = floats(*shapes[0], dtype=dtype), floats(*shapes[1], low=0.5, dtype=dtype)
    check(lambda x, y: getattr(mb, kind)(x=x, y=y), BINARY[kind], x, y, ulps=4)


@pytest.mark.parametrize("kind", ["add", "sub", "mul", "floor_div", "mod", "maximum", "minimum"])
def test_binary_operations_on_integers(kind: str) -> None:
    check(
        lambda x, y: getattr(mb, kind)(x=x, y=y),
        BINARY[kind],
        integers(63, low=-9, high=9),
        integers(63, low=1, high=5),
    )


def test_power() -> None:
    check(lambda x, y: mb.pow(x=x, y=y), torch.pow, floats(7, low=0.1), floats(3, 7), ulps=8)


@pytest.mark.parametrize("kind", ["equal", "not_equal", "greater", "greater_equal", "less", "less_equal"])
def test_comparisons_choose(kind: str) -> None:
    name = {"equal": "eq", "not_equal": "ne", "greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le"}
    check(
        lambda x, y: mb.select(cond=getattr(mb, kind)(x=x, y=y), a=x, b=y),
        lambda x, y: torch.where(getattr(torch, name[kind])(x, y), x, y),
        integers(4, 9),
        integers(9),
    )


@pytest.mark.parametrize("kind", ["logical_and", "logical_or", "logical_xor"])
def test_logic(kind: str) -> None:
    def build(x: Any, y: Any) -> Any:
        both = getattr(mb, kind)(x=mb.cast(x=x, dtype="bool"), y=mb.logical_not(x=mb.cast(x=y, dtype="bool")))
        return mb.cast(x=both, dtype="int32")

    check(build, lambda x, y: getattr(torch, kind)(x, y == 0).int(), integers(21, high=2), integers(21, high=2))


def test_casts_truncate_and_round() -> None:
    check(lambda x: mb.cast(x=x, dtype="int32"), lambda x: x.trunc().int(), floats(63))
    check(lambda x: mb.cast(x=mb.cast(x=x, dtype="fp16"), dtype="fp32"), lambda x: x.half().double(), floats(63))
    check(lambda x: mb.cast(x=mb.cast(x=x, dtype="uint8"), dtype="int32"), lambda x: x.trunc().int(), floats(9, low=0))
