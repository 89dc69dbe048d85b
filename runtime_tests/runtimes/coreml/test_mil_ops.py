"""Each Core ML operation, built alone, saved, and run from its file, against torch or numpy.

The expected values are computed in float64 from the operation's documentation; an fp16 program gets fp16 inputs and
must be within one rounding of them.
"""

import gc
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepass.runtimes import coreml
from edgepass.runtimes.coreml._file import quiet

with quiet():
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import Function, Program, types

gc.freeze()  # every conversion collects garbage, half a second with all that coremltools and torch hold
pytestmark = pytest.mark.filterwarnings(
    # coremltools leaves the temporary folder of a model that it wrote to its finaliser.
    "ignore:Implicitly cleaning up <TemporaryDirectory:ResourceWarning",
    # coremltools rounds fp32 constants to fp16 for the epsilons of fp16 operations, and numpy says so.
    "ignore:overflow encountered in cast:RuntimeWarning",
    "ignore:divide by zero:RuntimeWarning",
)

TYPES = {"float16": types.fp16, "float32": types.fp32, "int32": types.int32}
Build = Callable[..., Any]
rng = np.random.default_rng(0)


def save(build: Build, arrays: list[np.ndarray], path: Path, opset: Any = None) -> Path:
    """A package whose program is what `build` makes of one variable for each array."""
    opset = opset or ct.target.iOS18
    inputs = {f"x{i}": mb.placeholder(a.shape, dtype=TYPES[a.dtype.name]) for i, a in enumerate(arrays)}
    with Function(inputs, opset_version=opset) as function:
        results = build(*function.inputs.values())
        results = list(results) if isinstance(results, tuple | list) else [results]
        function.set_outputs([mb.identity(x=r, name=f"y{i}") for i, r in enumerate(results)])
    program = Program()
    program.add_function("main", function)
    precision = ct.precision.FLOAT32
    model = ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=opset,
        compute_precision=precision,
        pass_pipeline=ct.PassPipeline.EMPTY,
        skip_model_load=True,
    )
    model.save(str(path))
    return path


def run(build: Build, *arrays: np.ndarray, opset: Any = None) -> list[np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        return coreml.load(save(build, list(arrays), Path(folder) / "m.mlpackage", opset), 1)(arrays)


def check(build: Build, reference: Build, *arrays: np.ndarray, opset: Any = None, ulps: float = 1.0) -> None:
    """Float arrays are float64 for the reference; tolerance is in units of the program's precision."""
    actual = run(build, *arrays, opset=opset)
    expected = reference(*[torch.tensor(a.astype(np.float64) if a.dtype.kind == "f" else a) for a in arrays])
    expected = list(expected) if isinstance(expected, tuple | list) else [expected]
    assert len(actual) == len(expected)
    half = any(a.dtype == np.float16 for a in arrays)
    unit = 2.0**-11 if half else 2.0**-20
    for a, e in zip(actual, expected, strict=True):
        e = e.numpy()
        assert a.shape == e.shape
        np.testing.assert_allclose(a.astype(np.float64), e.astype(np.float64), rtol=ulps * unit, atol=ulps * unit * 4)


def floats(*shape: int, low: float = -3.0, high: float = 3.0, dtype: str = "float32") -> np.ndarray:
    return rng.uniform(low, high, shape).astype(dtype)


def integers(*shape: int, low: int = 0, high: int = 5) -> np.ndarray:
    return rng.integers(low, high, shape).astype(np.int32)


PRECISIONS = pytest.mark.parametrize("dtype", ["float32", "float16"])
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


REDUCTIONS: dict[str, Build] = {
    "reduce_l1_norm": lambda x, a, k: x.abs().sum(a, k),
    "reduce_l2_norm": lambda x, a, k: x.square().sum(a, k).sqrt(),
    "reduce_log_sum": lambda x, a, k: x.sum(a, k).log(),
    "reduce_log_sum_exp": torch.logsumexp,
    "reduce_max": torch.amax,
    "reduce_mean": torch.mean,
    "reduce_min": torch.amin,
    "reduce_prod": lambda x, a, k: torch.tensor(np.prod(x.numpy(), axis=tuple(a), keepdims=k)),
    "reduce_sum": torch.sum,
    "reduce_sum_square": lambda x, a, k: x.square().sum(a, k),
}


@PRECISIONS
@pytest.mark.parametrize(("axes", "keep"), [([1], True), ([-1, 0], False)])
@pytest.mark.parametrize("kind", REDUCTIONS)
def test_reductions(kind: str, axes: list[int], keep: bool, dtype: str) -> None:
    x = floats(3, 5, 2, low=0.5, high=1.5, dtype=dtype)
    build = lambda x: getattr(mb, kind)(x=x, axes=axes, keep_dims=keep)  # noqa: E731
    check(build, lambda x: REDUCTIONS[kind](x, axes, keep), x, ulps=4)


def test_fp16_is_rounded_between_operations() -> None:
    # 1 + 2^-11 lies halfway between 1 and the next fp16, and goes to the even one.
    ones = np.ones((1, 2), np.float16)
    build = lambda x: mb.sub(x=mb.linear(x=x, weight=ones), y=np.float16(1))  # noqa: E731
    (y,) = run(build, np.array([[1, 2.0**-11]], np.float16))
    assert y.tolist() == [[0.0]]


def test_fp16_is_summed_and_squared_in_fp32() -> None:
    # A running fp16 sum of ones stops at 2048, and 300 squared is beyond fp16.
    (y,) = run(lambda x: mb.reduce_sum(x=x, axes=[1], keep_dims=True), np.ones((1, 5000), np.float16))
    assert y.tolist() == [[5000.0]]
    (y,) = run(lambda x: mb.reduce_l2_norm(x=x, axes=[1], keep_dims=True), np.full((1, 5000), 300, np.float16))
    assert y.tolist() == [[float(np.float16(300 * 5000**0.5))]]


@settings(max_examples=15)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data())
def test_reductions_over_any_axes(shape: list[int], data: st.DataObject) -> None:
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True))
    check(
        lambda x: mb.reduce_mean(x=x, axes=axes, keep_dims=True), lambda x: x.mean(axes, keepdim=True), floats(*shape)
    )


@pytest.mark.parametrize("axis", [0, -1])
def test_orders(axis: int) -> None:
    x = rng.permutation(60).reshape(4, 15).astype(np.float32)
    check(lambda x: mb.reduce_argmax(x=x, axis=axis, keep_dims=True), lambda x: x.argmax(axis, True), x)
    check(lambda x: mb.reduce_argmin(x=x, axis=axis, keep_dims=False), lambda x: x.argmin(axis), x)
    check(lambda x: mb.argsort(x=x, axis=axis, ascending=True), lambda x: x.argsort(axis), x)
    check(lambda x: mb.argsort(x=x, axis=axis), lambda x: x.argsort(axis, descending=True), x)
    check(lambda x: mb.topk(x=x, k=3, axis=axis), lambda x: tuple(x.topk(3, axis)), x)
    check(lambda x: mb.topk(x=x, k=2, axis=axis, ascending=True), lambda x: tuple(x.topk(2, axis, False)), x)


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_cumulative_sums(exclusive: bool, reverse: bool) -> None:
    def reference(x: torch.Tensor) -> torch.Tensor:
        x = x.flip(1) if reverse else x
        y = x.cumsum(1) - (x if exclusive else 0)
        return y.flip(1) if reverse else y

    check(lambda x: mb.cumsum(x=x, axis=1, exclusive=exclusive, reverse=reverse), reference, floats(2, 13), ulps=8)


@PRECISIONS
def test_products(dtype: str) -> None:
    w, b = floats(5, 7, dtype=dtype), floats(5, dtype=dtype)
    w_64, b_64 = (torch.tensor(v.astype(np.float64)) for v in (w, b))
    check(
        lambda x: mb.linear(x=x, weight=w, bias=b), lambda x: F.linear(x, w_64, b_64), floats(3, 7, dtype=dtype), ulps=4
    )
    x, y = floats(2, 3, 7, dtype=dtype), floats(4, 7, dtype=dtype)
    check(lambda x, y: mb.matmul(x=x, y=y, transpose_y=True), lambda x, y: x @ y.T, x, y, ulps=8)
    check(
        lambda x, y: mb.matmul(x=x, y=y, transpose_x=True), lambda x, y: x.mT @ y, x, floats(3, 5, dtype=dtype), ulps=8
    )
    equation = "bchw,bwhu->bchu"
    x, y = floats(1, 2, 3, 4, dtype=dtype), floats(1, 4, 3, 5, dtype=dtype)
    check(
        lambda x, y: mb.einsum(values=(x, y), equation=equation),
        lambda x, y: torch.einsum(equation, x, y),
        x,
        y,
        ulps=8,
    )


@PRECISIONS
@pytest.mark.parametrize("mask", [None, "float", "bool"])
def test_attention(mask: str | None, dtype: str) -> None:
    q, k, v = floats(2, 3, 5, 4, dtype=dtype), floats(2, 3, 7, 4, dtype=dtype), floats(2, 3, 7, 6, dtype=dtype)
    m = rng.uniform(size=(5, 7)) > 0.3 if mask == "bool" else floats(5, 7, dtype=dtype)
    m[:, 0] = True
    extra = {} if mask is None else {"attn_mask": m}
    expected = None if mask is None else torch.tensor(m if mask == "bool" else m.astype(np.float64))
    check(
        lambda q, k, v: mb.scaled_dot_product_attention(query=q, key=k, value=v, **extra),
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, expected),
        q,
        k,
        v,
        ulps=8,
    )


@PRECISIONS
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax(axis: int, dtype: str) -> None:
    check(lambda x: mb.softmax(x=x, axis=axis), lambda x: x.softmax(axis), floats(3, 1, 7, dtype=dtype))


SIZES = {1: (17,), 2: (9, 8), 3: (5, 6, 5)}
CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize(("stride", "dilation", "groups"), [(1, 1, 1), (2, 1, 2), (1, 2, 4)])
@pytest.mark.parametrize("kind", ["valid", "custom", "same", "same_lower"])
def test_convolutions(n: int, stride: int, dilation: int, groups: int, kind: str) -> None:
    k = 2 if kind == "same" else 3
    x, w, b = floats(2, 4, *SIZES[n]), floats(8, 4 // groups, *[k] * n), floats(8)
    pads = [[2, 1], [0, 3], [1, 1]][:n]
    if kind == "valid":
        pads = [[0, 0]] * n
    elif kind != "custom":
        extent = (k - 1) * dilation + 1
        totals = [max(0, (-(-d // stride) - 1) * stride + extent - d) for d in SIZES[n]]
        pads = [[t // 2, t - t // 2] if kind == "same" else [t - t // 2, t // 2] for t in totals]
    pad = [p for pair in pads for p in pair]

    def reference(x: torch.Tensor) -> torch.Tensor:
        x = F.pad(x, [p for pair in reversed(pads) for p in pair])
        return CONV[n](x, torch.tensor(w).double(), torch.tensor(b).double(), stride, 0, dilation, groups)

    extra = {"pad": pad} if kind == "custom" else {}
    check(
        lambda x: mb.conv(
            x=x, weight=w, bias=b, strides=[stride] * n, dilations=[dilation] * n, groups=groups, pad_type=kind, **extra
        ),
        reference,
        x,
        ulps=64,
    )


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize(("stride", "dilation", "groups"), [(1, 1, 1), (2, 1, 2), (3, 2, 1)])
@pytest.mark.parametrize("pad", [0, 1])
def test_transposed_convolutions(n: int, stride: int, dilation: int, groups: int, pad: int) -> None:
    x, w, b = floats(1, 4, *SIZES[n]), floats(4, 6 // groups, *[3] * n), floats(6)

    def reference(x: torch.Tensor) -> torch.Tensor:
        weight, bias = torch.tensor(w).double(), torch.tensor(b).double()
        return TRANSPOSED[n](x, weight, bias, stride, pad, 0, groups, dilation)

    check(
        lambda x: mb.conv_transpose(
            x=x,
            weight=w,
            bias=b,
            strides=[stride] * n,
            dilations=[dilation] * n,
            groups=groups,
            pad_type="custom",
            pad=[pad] * 2 * n,
        ),
        reference,
        x,
        ulps=64,
    )


def test_a_transposed_convolution_can_be_given_its_output_size() -> None:
    x, w, b = floats(1, 2, 5), floats(2, 3, 3), floats(3)
    out = F.conv_transpose1d(*(torch.tensor(v).double() for v in (x, w, b)), 2, 1, 1)
    arguments = {"strides": [2], "pad_type": "custom", "pad": [1, 1], "output_shape": list(out.shape)}
    check(lambda x: mb.conv_transpose(x=x, weight=w, bias=b, **arguments), lambda x: out, x, ulps=16)


MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVG = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize(("pad", "ceil"), [(0, False), (1, False), (1, True)])
def test_pools(n: int, exclude: bool, pad: int, ceil: bool) -> None:
    if n == 3 and ceil:
        ceil = False  # Core ML has no ceil mode in 3-D
    x = floats(2, 3, *SIZES[n])
    common = {
        "kernel_sizes": [3] * n,
        "strides": [2] * n,
        "pad_type": "custom",
        "pad": [pad] * 2 * n,
        "ceil_mode": ceil,
    }
    check(lambda x: mb.max_pool(x=x, **common), lambda x: MAX[n](x, 3, 2, pad, ceil_mode=ceil), x)
    check(
        lambda x: mb.avg_pool(x=x, exclude_padding_from_average=exclude, **common),
        lambda x: AVG[n](x, 3, 2, pad, ceil, not exclude),
        x,
        ulps=4,
    )


@pytest.mark.parametrize("kind", ["same", "same_lower"])
def test_pools_padded_unevenly(kind: str) -> None:
    x = floats(1, 2, 8)
    before, after = (0, 1) if kind == "same" else (1, 0)
    arguments = {"kernel_sizes": [3], "strides": [2], "pad_type": kind}

    def average(x: torch.Tensor) -> torch.Tensor:
        inside = F.pad(torch.ones_like(x), (before, after)).unfold(2, 3, 2).sum(-1)
        return F.pad(x, (before, after)).unfold(2, 3, 2).sum(-1) / inside

    check(lambda x: mb.avg_pool(x=x, exclude_padding_from_average=True, **arguments), average, x, ulps=4)
    check(
        lambda x: mb.max_pool(x=x, **arguments),
        lambda x: F.pad(x, (before, after), value=-9).unfold(2, 3, 2).amax(-1),
        x,
    )
    check(
        lambda x: mb.l2_pool(x=x, **arguments),
        lambda x: F.pad(x, (before, after)).unfold(2, 3, 2).square().sum(-1).sqrt(),
        x,
        ulps=4,
    )


@PRECISIONS
def test_norms(dtype: str) -> None:
    one = np.dtype(dtype).type
    x, g, b = floats(2, 3, 5, 4, dtype=dtype), floats(3, dtype=dtype), floats(3, dtype=dtype)
    mean, variance = floats(3, dtype=dtype), floats(3, low=0.5, dtype=dtype)
    g_64, b_64, m_64, v_64 = (torch.tensor(v.astype(np.float64)) for v in (g, b, mean, variance))
    check(
        lambda x: mb.batch_norm(x=x, mean=mean, variance=variance, gamma=g, beta=b, epsilon=one(0.125)),
        lambda x: F.batch_norm(x, m_64, v_64, g_64, b_64, eps=0.125),
        x,
        ulps=8,
    )
    check(
        lambda x: mb.instance_norm(x=x, gamma=g, beta=b, epsilon=one(0.125)),
        lambda x: F.instance_norm(x, weight=g_64, bias=b_64, eps=0.125),
        x,
        ulps=8,
    )
    w = floats(5, 4, dtype=dtype)
    w_64 = torch.tensor(w.astype(np.float64))
    check(
        lambda x: mb.layer_norm(x=x, axes=[-1, 2], gamma=w, beta=w, epsilon=one(0.125)),
        lambda x: F.layer_norm(x, (5, 4), w_64, w_64, 0.125),
        x,
        ulps=8,
    )
    check(
        lambda x: mb.layer_norm(x=x, axes=[1], gamma=g, beta=b, epsilon=one(0.125)),
        lambda x: F.layer_norm(x.movedim(1, -1), (3,), g_64, b_64, 0.125).movedim(-1, 1),
        x,
        ulps=8,
    )
    check(
        lambda x: mb.l2_norm(x=x, epsilon=one(0.125)),
        lambda x: x / (x.square().sum((1, 2, 3), keepdim=True) + 0.125).sqrt(),
        x,
        ulps=4,
    )
    check(
        lambda x: mb.local_response_norm(x=x, size=2, alpha=one(0.5), beta=one(0.75), k=one(1.0)),
        lambda x: F.local_response_norm(x, 2, 0.5, 0.75, 1.0),
        x,
        ulps=8,
    )


def test_shapes() -> None:
    x = floats(2, 3, 1, 5)
    check(lambda x: mb.reshape(x=x, shape=[6, -1]), lambda x: x.reshape(6, 5), x)
    check(lambda x: mb.reshape(x=x, shape=[2, 0, 1, -1]), lambda x: x, x)
    check(lambda x: mb.reshape(x=x, shape=[-1, 0]), lambda x: x.reshape(6, 5), x)
    check(lambda x: mb.reshape_like(x=x, ref_tensors=(x, x), begins=(0, 3), ends=(2, 4), end_masks=(False, True)),
          lambda x: x.reshape(2, 3, 5), x)  # fmt: skip
    check(lambda x: mb.transpose(x=x, perm=[3, 0, 2, 1]), lambda x: x.permute(3, 0, 2, 1), x)
    check(lambda x: mb.expand_dims(x=x, axes=[0, -1]), lambda x: x[None, ..., None], floats(3, 2))
    check(lambda x: mb.squeeze(x=x, axes=[2]), lambda x: x.squeeze(2), x)
    check(lambda x: mb.squeeze(x=x), torch.squeeze, x)
    check(lambda x: mb.flatten2d(x=x, axis=-2), lambda x: x.reshape(6, 5), x)
    check(lambda x: mb.shape(x=x), lambda x: torch.tensor(x.shape), x)
    check(lambda x: mb.reverse(x=x, axes=[1, -1]), lambda x: x.flip(1, -1), x)
    check(lambda x: mb.reverse(x=x), lambda x: x.flip(0, 1, 2, 3), x)
    check(lambda x: mb.tile(x=x, reps=[1, 2, 3, 1]), lambda x: x.repeat(1, 2, 3, 1), x)
    check(lambda x: mb.sliding_windows(x=x, axis=1, size=2, stride=1), lambda x: x.unfold(1, 2, 1).movedim(-1, 2), x)
    check(lambda x: mb.sliding_windows(x=x, axis=-1, size=3, stride=2), lambda x: x.unfold(3, 3, 2).movedim(-1, 4), x)


def test_joining_and_splitting() -> None:
    x, y = floats(2, 3, 5), floats(2, 3, 5)
    check(lambda x, y: mb.concat(values=(x, y), axis=-2), lambda x, y: torch.cat([x, y], -2), x, y)
    check(
        lambda x, y: mb.concat(values=(x, y), axis=1, interleave=True),
        lambda x, y: torch.stack([x, y], 2).reshape(2, 6, 5),
        x,
        y,
    )
    check(lambda x, y: mb.stack(values=(x, y), axis=-1), lambda x, y: torch.stack([x, y], -1), x, y)
    check(lambda x: mb.split(x=x, num_splits=5, axis=-1), lambda x: x.split(1, -1), x)
    check(lambda x: mb.split(x=x, split_sizes=[1, 3, 1], axis=2), lambda x: x.split([1, 3, 1], 2), x)


@settings(max_examples=40)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=3), st.booleans(), st.data())
def test_slices_are_numpys(shape: list[int], dynamic: bool, data: st.DataObject) -> None:
    x = floats(*shape)
    draw = data.draw
    steps = [draw(st.sampled_from([1, 2, 3, -1, -2])) for _ in shape]
    begin = [draw(st.integers(-d, d - 1)) for d in shape]
    end = [draw(st.integers(-d, d)) for d in shape]
    from_start, to_end, single = ([draw(st.booleans()) for _ in shape] for _ in range(3))
    if all(single):
        single[0] = False
    from_start = [f and not s for f, s in zip(from_start, single, strict=True)]
    index = tuple(
        b if one else slice(None if f else b, None if t else e, s)
        for b, e, s, f, t, one in zip(begin, end, steps, from_start, to_end, single, strict=True)
    )
    if x[index].size == 0:
        return
    masks = {"stride": steps, "begin_mask": from_start, "end_mask": to_end, "squeeze_mask": single}
    expected = x[index]

    def build(x: Any, *bounds: Any) -> Any:
        b, e = bounds or (begin, end)
        return mb.slice_by_index(x=x, begin=b, end=e, **masks)

    bounds = [np.array(begin, np.int32), np.array(end, np.int32)] if dynamic else []
    check(build, lambda x, *_: torch.tensor(expected.copy()), x, *bounds)


@settings(max_examples=15)
@given(st.lists(st.integers(2, 6), min_size=1, max_size=3), st.data())
def test_slices_are_written_as_numpy_does(shape: list[int], data: st.DataObject) -> None:
    x = floats(*shape)
    steps = [data.draw(st.sampled_from([1, 2, -1])) for _ in shape]
    index = tuple(slice(None, None, s) for s in steps)
    update = floats(*x[index].shape)
    expected = x.copy()
    expected[index] = update
    n = len(shape)
    arguments = {"begin": [0] * n, "end": [0] * n, "stride": steps, "begin_mask": [True] * n, "end_mask": [True] * n}
    build = lambda x, u: mb.slice_update(x=x, update=u, **arguments)  # noqa: E731
    check(build, lambda x, u: torch.tensor(expected), x, update)


def test_slices_by_size() -> None:
    x = floats(3, 5, 7)
    check(lambda x: mb.slice_by_size(x=x, begin=[1, 0, 2], size=[2, -1, 3]), lambda x: x[1:3, :, 2:5], x)
    begin, size = np.array([0, 2, 6], np.int32), np.array([1, 2, 1], np.int32)
    check(lambda x, b, s: mb.slice_by_size(x=x, begin=b, size=s), lambda x, b, s: x[:1, 2:4, 6:7], x, begin, size)


@settings(max_examples=25)
@given(
    st.lists(st.integers(2, 6), min_size=2, max_size=4),
    st.sampled_from(["constant", "reflect", "replicate"]),
    st.data(),
)
def test_padding_is_numpys(shape: list[int], mode: str, data: st.DataObject) -> None:
    padded = data.draw(st.integers(1, len(shape) if mode == "constant" else min(2, len(shape))))
    pairs = [[data.draw(st.integers(0, d - 1)) for _ in "ba"] for d in shape[-padded:]]
    x = floats(*shape)
    full = [[0, 0]] * (len(shape) - padded) + pairs
    extra = {"constant_values": 1.5} if mode == "constant" else {}
    expected = np.pad(x, full, {"replicate": "edge"}.get(mode, mode), **extra)
    flat = [p for pair in pairs for p in pair]
    build = lambda x: mb.pad(x=x, pad=flat, mode=mode, constant_val=np.float32(1.5))  # noqa: E731
    check(build, lambda x: torch.tensor(expected), x)


def test_reversed_sequences() -> None:
    x, lengths = floats(5, 3, 2), np.array([1, 5, 3], np.int32)

    def reference(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        y = x.clone()
        for i, n in enumerate(lengths.tolist()):
            y[:n, i] = x[:n, i].flip(0)
        return y

    check(lambda x, n: mb.reverse_sequence(x=x, lengths=n, seq_axis=0, batch_axis=1), reference, x, lengths)


def test_gathers() -> None:
    x, i = floats(4, 5, 6), integers(2, 3, high=4)
    check(lambda x, i: mb.gather(x=x, indices=i, axis=1), lambda x, i: x[:, i.long()], x, i)
    check(lambda x: mb.gather(x=x, indices=[0, -1], axis=-1), lambda x: x[..., [0, -1]], x, opset=ct.target.iOS16)
    check(lambda x: mb.gather(x=x, indices=2, axis=1), lambda x: x[:, 2], x)
    j = integers(4, 3, high=6)
    check(
        lambda x, i: mb.gather(x=x, indices=i, axis=2, batch_dims=1),
        lambda x, i: torch.stack([x[n][:, i[n].long()] for n in range(4)]),
        x,
        j,
    )
    k = integers(4, 2, 6, high=5)
    check(lambda x, i: mb.gather_along_axis(x=x, indices=i, axis=1), lambda x, i: x.gather(1, i.long()), x, k)
    k = integers(7, 2, high=4)
    check(lambda x, i: mb.gather_nd(x=x, indices=i), lambda x, i: x[i[:, 0].long(), i[:, 1].long()], x, k)
    k = integers(4, 3, 1, high=5)
    check(
        lambda x, i: mb.gather_nd(x=x, indices=i, batch_dims=1),
        lambda x, i: torch.stack([x[n, i[n, :, 0].long()] for n in range(4)]),
        x,
        k,
    )


@pytest.mark.parametrize("mode", ["update", "add", "sub", "mul", "div", "max", "min"])
def test_scatters(mode: str) -> None:
    x = floats(4, 5, low=0.5)
    combine: Build = {
        "update": lambda a, b: b,
        "add": np.add,
        "sub": np.subtract,
        "mul": np.multiply,
        "div": np.divide,
        "max": np.maximum,
        "min": np.minimum,
    }[mode]
    repeat = mode != "update"  # which of two updates wins is not defined
    i = np.array([3, 0, 3] if repeat else [3, 0, 1], np.int32)
    u = floats(4, 3, low=0.5)
    expected = x.astype(np.float64)
    for column, place in enumerate(i):
        expected[:, place] = combine(expected[:, place], u[:, column])
    y = torch.tensor(expected)
    check(lambda x, i, u: mb.scatter(data=x, indices=i, updates=u, axis=1, mode=mode), lambda *_: y, x, i, u, ulps=4)
    along = np.broadcast_to(i, (4, 3)).copy()
    check(
        lambda x, i, u: mb.scatter_along_axis(data=x, indices=i, updates=u, axis=-1, mode=mode),
        lambda *_: y,
        x,
        along,
        u,
        ulps=4,
    )
    nd = np.stack([np.repeat(np.arange(4), 3), along.ravel()], -1).astype(np.int32)
    check(
        lambda x, i, u: mb.scatter_nd(data=x, indices=i, updates=u, mode=mode), lambda *_: y, x, nd, u.ravel(), ulps=4
    )


def test_made_tensors() -> None:
    i = integers(2, 3, high=4)
    for axis in (-1, 0, 1):
        check(
            lambda i, axis=axis: mb.one_hot(
                indices=i, one_hot_vector_size=4, axis=axis, on_value=np.float32(2), off_value=np.float32(-1)
            ),
            lambda i, axis=axis: (F.one_hot(i.long(), 4) * 3.0 - 1).movedim(-1, axis),
            i,
        )
    size = np.array([2, 3], np.int32)
    check(lambda s: mb.fill(shape=s, value=np.float32(1.5)), lambda s: torch.full((2, 3), 1.5), size)
    check(lambda x: mb.fill_like(ref_tensor=x, value=np.float32(1.5)), lambda x: torch.full_like(x, 1.5), floats(3, 5))
    ends = np.array([2, 11, 3], np.int32)
    part = lambda x, i: mb.gather(x=x, indices=i, axis=0)  # noqa: E731
    check(
        lambda e: mb.range_1d(start=part(e, 0), end=part(e, 1), step=part(e, 2)), lambda e: torch.arange(2, 11, 3), ends
    )
    x = (floats(5, 7) > 0).astype(np.float32)
    check(lambda x: mb.non_zero(x=x), torch.nonzero, x)
    for low, high in ((-1, 0), (0, -1), (1, 2)):
        keep = np.array([
            [(low < 0 or m - n <= low) and (high < 0 or n - m <= high) for n in range(7)] for m in range(5)
        ])
        check(
            lambda x, low=low, high=high: mb.band_part(x=x, lower=low, upper=high),
            lambda x, keep=keep: x * torch.tensor(keep),
            floats(2, 5, 7),
        )


def test_blocks_of_pixels() -> None:
    x = floats(2, 8, 3, 5)
    check(lambda x: mb.pixel_shuffle(x=x, upscale_factor=2), lambda x: F.pixel_shuffle(x, 2), x)
    wide = floats(1, 2, 4, 6)
    check(lambda x: mb.pixel_unshuffle(x=x, downscale_factor=np.uint32(2)), lambda x: F.pixel_unshuffle(x, 2), wide)

    def depth_to_space(x: torch.Tensor) -> torch.Tensor:
        y = torch.zeros(2, 2, 6, 10, dtype=x.dtype)
        for i in range(2):
            for j in range(2):
                y[:, :, i::2, j::2] = x[:, (2 * i + j) * 2 : (2 * i + j) * 2 + 2]
        return y

    check(lambda x: mb.depth_to_space(x=x, block_size=2), depth_to_space, x)
    check(lambda x: mb.space_to_depth(x=mb.depth_to_space(x=x, block_size=2), block_size=2), lambda x: x, x)
    check(lambda x: mb.crop(x=x, crop_height=[1, 0], crop_width=[1, 2]), lambda x: x[..., 1:, 1:-2], x)

    def space_to_batch(x: torch.Tensor) -> torch.Tensor:
        x = F.pad(x, (1, 2, 0, 1))
        return torch.cat([x[:, :, i::2, j::4] for i in range(2) for j in range(4)])

    to_batch = lambda x: mb.space_to_batch(x=x, block_shape=[2, 4], paddings=[[0, 1], [1, 2]])  # noqa: E731
    check(to_batch, space_to_batch, x)
    check(lambda x: mb.batch_to_space(x=to_batch(x), block_shape=[2, 4], crops=[[0, 1], [1, 2]]), lambda x: x, x)


@pytest.mark.parametrize("size", [(5, 9), (2, 3), (1, 1)])
def test_resizing_is_torchs_where_torch_has_it(size: tuple[int, int]) -> None:
    x = floats(1, 2, 4, 6)
    target = {"target_size_height": size[0], "target_size_width": size[1]}
    torchs = lambda corners: lambda x: F.interpolate(x, size, mode="bilinear", align_corners=corners)  # noqa: E731
    check(lambda x: mb.resize_bilinear(x=x, sampling_mode="UNALIGN_CORNERS", **target), torchs(False), x, ulps=16)
    check(lambda x: mb.resize_bilinear(x=x, sampling_mode="STRICT_ALIGN_CORNERS", **target), torchs(True), x, ulps=16)
    check(lambda x: mb.resize_nearest_neighbor(x=x, **target), lambda x: F.interpolate(x, size), x)
    shape = np.array([0, size[0], size[1]], np.int32)
    check(
        lambda x, s: mb.resize(x=x, shape=s, resized_dims=np.uint32(2), sampling_mode="UNALIGN_CORNERS"),
        lambda x, s: torchs(False)(x),
        x,
        shape,
        ulps=16,
    )


@pytest.mark.parametrize(
    ("mode", "out", "expected"),
    [  # the examples in resize_bilinear's documentation, for the interval [0, 1]
        ("UNALIGN_CORNERS", 5, [0, 0.1, 0.5, 0.9, 1]),
        ("STRICT_ALIGN_CORNERS", 5, [0, 0.25, 0.5, 0.75, 1]),
        ("ALIGN_CORNERS", 5, [0, 0.25, 0.5, 0.75, 1]),
        ("DEFAULT", 5, [0, 0.4, 0.8, 1, 1]),
        ("OFFSET_CORNERS", 5, [0.1, 0.3, 0.5, 0.7, 0.9]),
        ("ALIGN_CORNERS", 1, [0.5]),
        ("STRICT_ALIGN_CORNERS", 1, [0]),
    ],
)
def test_sampling_modes_are_the_documented_ones(mode: str, out: int, expected: list[float]) -> None:
    x = np.array([0, 1], np.float32).reshape(1, 1, 1, 2)
    build = lambda x: mb.resize_bilinear(x=x, target_size_height=1, target_size_width=out, sampling_mode=mode)  # noqa: E731
    check(build, lambda x: torch.tensor(expected).reshape(1, 1, 1, out), x)


def test_upsampling() -> None:
    x = floats(1, 2, 3, 5)
    both = {"scale_factor_height": 2, "scale_factor_width": 3}
    check(
        lambda x: mb.upsample_nearest_neighbor(x=x, **both),
        lambda x: x.repeat_interleave(2, 2).repeat_interleave(3, 3),
        x,
    )
    for corners in (True, False):
        check(
            lambda x, corners=corners: mb.upsample_bilinear(x=x, align_corners=corners, **both),
            lambda x, corners=corners: F.interpolate(x, (6, 15), mode="bilinear", align_corners=corners),
            x,
            ulps=16,
        )


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize(("edge", "align"), [("constant", True), ("constant", False), ("border", False),
                                             ("reflection", True), ("symmetric", False)])  # fmt: skip
def test_resampling_is_grid_sample(mode: str, edge: str, align: bool) -> None:
    x, c = floats(2, 3, 4, 5), floats(2, 6, 7, 2, low=-1.4, high=1.4)
    torchs = {"constant": "zeros", "symmetric": "reflection"}.get(edge, edge)
    check(
        lambda x, c: mb.resample(
            x=x,
            coordinates=c,
            sampling_mode=mode,
            padding_mode=edge,
            padding_value=np.float32(0),
            coordinates_mode="normalized_minus_one_to_one",
            align_corners=align,
        ),
        lambda x, c: F.grid_sample(x, c, mode, torchs, align),
        x,
        c,
        ulps=64,
    )


def test_affine_maps() -> None:
    x, m = floats(2, 3, 4, 5), floats(2, 6, low=-1, high=1)
    check(
        lambda x, m: mb.affine(
            x=x,
            transform_matrix=m,
            output_height=3,
            output_width=6,
            sampling_mode="bilinear",
            padding_mode="constant",
            padding_value=np.float32(0),
            coordinates_mode="normalized_minus_one_to_one",
            align_corners=True,
        ),
        lambda x, m: F.grid_sample(x, F.affine_grid(m.reshape(2, 2, 3), [2, 3, 3, 6], True), align_corners=True),
        x,
        m,
        ulps=64,
    )


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("axis", [None, 1])
def test_quantisation_and_back(dtype: str, axis: int | None) -> None:
    x = floats(2, 3, 5, low=-9, high=9)
    scale = np.float32(0.05) if axis is None else np.array([0.05, 0.03, 0.1], np.float32)
    zero = np.array(3 if axis is None else [3, 0, 100], dtype)
    where = {} if axis is None else {"axis": np.int32(axis)}
    zero = zero[()] if axis is None else zero

    def build(x: Any) -> Any:
        q = mb.quantize(input=x, scale=scale, zero_point=zero, output_dtype=dtype, **where)
        return mb.dequantize(input=q, scale=scale, zero_point=zero, **where)

    def reference(x: torch.Tensor) -> torch.Tensor:
        s, z = (torch.tensor(np.asarray(v, np.float64)).reshape(1, -1, 1) for v in (scale, zero))
        info = torch.iinfo(getattr(torch, dtype))
        return (((x.float() / s.float()).round() + z).clamp(info.min, info.max) - z) * s

    check(build, reference, x, ulps=4)


def torch_weights(module: Any, order: list[int], suffix: str = "") -> dict[str, np.ndarray]:
    def take(name: str) -> np.ndarray:
        chunks = getattr(module, f"{name}_l0{suffix}").detach().float().chunk(len(order))
        return torch.cat([chunks[i] for i in order]).numpy()

    return {"weight_ih": take("weight_ih"), "weight_hh": take("weight_hh"), "bias": take("bias_ih") + take("bias_hh")}


@pytest.mark.parametrize("sequence", [True, False])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("clip", [None, 1e6])
def test_lstm_is_torchs_fused_and_unrolled(direction: str, sequence: bool, clip: float | None) -> None:
    both = direction == "bidirectional"
    sides = 2 if both else 1
    module = torch.nn.LSTM(3, 5, bidirectional=both).double()
    x, h, c = floats(7, 2, 3), floats(2, 5 * sides), floats(2, 5 * sides)
    weights = torch_weights(module, [0, 1, 3, 2])
    if both:
        weights |= {f"{k}_back": v for k, v in torch_weights(module, [0, 1, 3, 2], "_reverse").items()}
    extra = {} if clip is None else {"clip": np.float32(clip)}

    def build(x: Any, h: Any, c: Any) -> Any:
        return mb.lstm(x=x, initial_h=h, initial_c=c, direction=direction, output_sequence=sequence, **weights, **extra)

    def reference(x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = x.flip(0) if direction == "reverse" else x
        state = tuple(torch.stack(s.chunk(sides, -1)) for s in (h, c))
        with torch.no_grad():
            y, (h, c) = module(x, state)
        h, c = (torch.cat(list(s), -1) for s in (h, c))
        y = y.flip(0) if direction == "reverse" else y
        return (y if sequence else h[None]), h, c

    check(build, reference, x, h, c, ulps=16)


@pytest.mark.parametrize("gate", ["sigmoid", "tanh"])
def test_gru_is_as_documented(gate: str) -> None:
    x, h = floats(6, 2, 3), floats(2, 4)
    w, u, b = floats(12, 3, low=-1, high=1), floats(12, 4, low=-1, high=1), floats(12)
    act = {"sigmoid": torch.sigmoid, "tanh": torch.tanh}[gate]

    def reference(x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        (w_r, w_o, w_z), (u_r, u_o, u_z), (b_r, b_o, b_z) = (torch.tensor(v).double().chunk(3) for v in (w, u, b))
        ys = []
        for x_t in x:
            r = act(x_t @ w_r.T + h @ u_r.T + b_r)
            z = act(x_t @ w_z.T + h @ u_z.T + b_z)
            o = torch.tanh(x_t @ w_o.T + b_o + r * (h @ u_o.T))
            h = (1 - z) * o + z * h
            ys.append(h)
        return torch.stack(ys), h

    check(
        lambda x, h: mb.gru(
            x=x, initial_h=h, weight_ih=w, weight_hh=u, bias=b, recurrent_activation=gate, output_sequence=True
        ),
        reference,
        x,
        h,
        ulps=16,
    )


def test_rnn_is_torchs() -> None:
    module = torch.nn.RNN(3, 5).double()
    weights = torch_weights(module, [0])

    def reference(x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            y, h = module(x, h[None])
        return y, h[0]

    check(
        lambda x, h: mb.rnn(x=x, initial_h=h, output_sequence=True, **weights),
        reference,
        floats(7, 2, 3),
        floats(2, 5),
        ulps=16,
    )


@pytest.mark.parametrize("x", [-3, 4])
def test_branches(x: int) -> None:
    def build(x: Any) -> Any:
        positive = mb.squeeze(x=mb.greater(x=x, y=0), axes=[0])
        return mb.cond(pred=positive, _true_fn=lambda: mb.mul(x=x, y=2), _false_fn=lambda: mb.sub(x=x, y=1))

    check(build, lambda v: torch.where(v > 0, v * 2, v - 1), np.array([x], np.int32))


@pytest.mark.parametrize("n", [0, 1, 7])
def test_loops(n: int) -> None:
    def build(n: Any, x: Any) -> Any:
        return mb.while_loop(
            _cond=lambda i, a, b: mb.squeeze(x=mb.greater(x=i, y=0), axes=[0]),
            _body=lambda i, a, b: (mb.sub(x=i, y=1), mb.add(x=b, y=x), a),  # the last two change places
            loop_vars=(n, x, mb.mul(x=x, y=2)),
        )

    def reference(n: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        a, b = x, x * 2
        while n > 0:
            n, a, b = n - 1, b + x, a
        return n, a, b

    check(build, reference, np.array([n], np.int32), integers(3))


def test_lists() -> None:
    def build(x: Any) -> Any:
        ls = mb.make_list(init_length=3, elem_shape=(2,), dtype="fp32", dynamic_length=False)
        ls = mb.list_scatter(ls=ls, indices=[0, 1, 2], value=x)
        ls = mb.list_write(ls=ls, index=1, value=mb.list_read(ls=ls, index=2))
        return mb.list_gather(ls=ls, indices=[2, 1, 0])

    check(build, lambda x: x[[2, 2, 0]], floats(3, 2))
