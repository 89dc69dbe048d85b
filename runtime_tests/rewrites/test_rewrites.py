"""Rewrites: each formula computes what its operation does, and the new form is one delegate where the old was several.

The matrix (test_matrix.py) runs the rest of them in every file that it makes.
"""

from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from edgepass import exporters, rewrites
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.quantize import recipe as recipes
from edgepass.rewrites import (
    activations,
    bounds,
    circular,
    diagonal,
    distances,
    expand,
    gelu,
    gelu_by_tanh,
    instance_norm,
    log_sigmoid,
    mean,
    norm,
    ordered,
    pools,
    reciprocal,
    remainders,
    reshapes,
    rms_norm,
    rows,
    variances,
    volumes,
    windows,
)
from edgepass.runtimes import _child
from runtime_tests.conftest import CONVERTERS_WARN

WIDTHS = st.sampled_from([1, 2, 13, 63])
FACTORS = st.sampled_from([0.3, 1.0, 2.5])


def tokens(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@given(width=WIDTHS, affine=st.booleans())
def test_norms_are_torch_s(width: int, affine: bool) -> None:
    x, weight, bias = tokens(2, 5, width), tokens(width), tokens(width)
    w, b = (weight, bias) if affine else (None, None)
    torch.testing.assert_close(norm.layer_norm(x, [width], w, b), functional.layer_norm(x, [width], w, b))
    torch.testing.assert_close(norm.rms_norm(x, [width], w), functional.rms_norm(x, [width], w, rewrites.EPS))
    if width > 2:
        torch.testing.assert_close(norm.layer_norm(x, [width], eps=-0.01), functional.layer_norm(x, [width], eps=-0.01))


@pytest.mark.parametrize("formula", [norm.rms_norm, rms_norm.rms_norm])
def test_a_norm_that_names_no_epsilon_has_that_of_float32_in_float16_too(formula: Callable[..., Tensor]) -> None:
    small = torch.randn(5, 16) * 0.03  # whose squares are as large as the epsilon that torch chooses in float16
    expected = functional.rms_norm(small, [16])
    torch.testing.assert_close(formula(small.half(), [16]).float(), expected, rtol=1e-2, atol=1e-2)


def test_a_row_of_zeros_has_a_norm_in_float16_whatever_the_epsilon() -> None:
    zeros, bias = torch.zeros(2, 16).half(), torch.randn(16).half()
    torch.testing.assert_close(norm.layer_norm(zeros, [16], None, bias, 1e-12), bias.expand(2, 16))
    torch.testing.assert_close(norm.rms_norm(zeros, [16], None, 1e-12), zeros)


@given(width=WIDTHS, dim=st.integers(-3, 2), keepdim=st.booleans())
def test_a_mean_is_torch_s_over_any_one_dimension(width: int, dim: int, keepdim: bool) -> None:
    x = tokens(3, 7, width)
    torch.testing.assert_close(mean.mean(x, [dim], keepdim), x.mean(dim, keepdim))


@given(size=st.integers(1, 5), dim=st.integers(-3, 2))
def test_reshapes_give_what_they_stand_for(size: int, dim: int) -> None:
    x = tokens(size, 1, size)
    torch.testing.assert_close(reshapes.squeeze(x, dim), x.squeeze(dim))
    torch.testing.assert_close(reshapes.select(x, dim, -1), x.select(dim, -1))
    torch.testing.assert_close(tuple(reshapes.unbind(x, dim)), x.unbind(dim))


@given(length=st.sampled_from([1, 7, 63]), size=st.integers(1, 9), step=st.integers(1, 5), dim=st.integers(-3, 2))
def test_windows_are_torch_s(length: int, size: int, step: int, dim: int) -> None:
    x = tokens(length, length, length) if length < 63 else tokens(2, 2, 2).repeat_interleave(32, dim)
    size = min(size, x.shape[dim])
    torch.testing.assert_close(windows.unfold(x, dim, size, step), x.unfold(dim, size, step), rtol=0, atol=0)


@given(x=st.floats(-30, 30, width=32), y=st.sampled_from([0.3, -1.5, 2.0, 7.0]))
def test_remainders_are_torch_s(x: float, y: float) -> None:
    at, by = torch.tensor([x, -x, 0.0]), torch.tensor([y])
    torch.testing.assert_close(remainders.fmod(at, y), torch.fmod(at, y))
    torch.testing.assert_close(remainders.fmod(at, by), torch.fmod(at, by))
    torch.testing.assert_close(remainders.trunc(at), torch.trunc(at))
    torch.testing.assert_close(reciprocal.reciprocal(at[:2]), at[:2].reciprocal())


@given(x=st.floats(-80, 80))
def test_the_logarithm_of_a_sigmoid_is_torch_s(x: float) -> None:
    at = torch.tensor([x], dtype=torch.float64)
    torch.testing.assert_close(log_sigmoid.log_sigmoid(at), functional.logsigmoid(at), rtol=1e-7, atol=3e-9)


SIDES = st.tuples(*[st.integers(1, 7)] * 3)


@given(sides=SIDES, parts=SIDES)
def test_pools_over_volumes_are_torch_s(sides: tuple[int, int, int], parts: tuple[int, int, int]) -> None:
    x = tokens(2, 3, *sides)
    torch.testing.assert_close(pools.adaptive_avg_pool3d(x, parts), functional.adaptive_avg_pool3d(x, parts))


@given(low=st.none() | st.just(0.5), high=st.none() | st.sampled_from([0.2, 1.0]))
def test_bounds_are_torch_s_also_where_they_cross(low: float | None, high: float | None) -> None:
    x = tokens(3, 7)
    ends = [None if end is None else torch.full((3, 7), end, dtype=x.dtype) for end in (low, high)]
    if ends != [None, None]:
        torch.testing.assert_close(bounds.clamp(x, *ends), torch.clamp(x, *ends), rtol=0, atol=0)


@given(sides=st.tuples(*[st.integers(1, 5)] * 3), offset=st.integers(-6, 6), dims=st.permutations(range(-1, 2)))
def test_diagonals_are_torch_s(sides: tuple[int, int, int], offset: int, dims: list[int]) -> None:
    x = tokens(*sides)
    right = x.diagonal(offset, *dims[:2]) if -x.shape[dims[0]] <= offset <= x.shape[dims[1]] else None
    if right is not None:
        torch.testing.assert_close(diagonal.diagonal(x, offset, *dims[:2]), right, rtol=0, atol=0)
        torch.testing.assert_close(diagonal.diag(x[0], 0), x[0].diag(), rtol=0, atol=0)
    assert diagonal.diag(x[0, 0]) is NotImplemented


@given(sizes=st.lists(st.integers(0, 3), min_size=2, max_size=6), length=st.integers(3, 7))
def test_a_pad_that_goes_round_is_torch_s(sizes: list[int], length: int) -> None:
    sizes = sizes[: len(sizes) // 2 * 2]
    x = tokens(2, 3, *[length] * (len(sizes) // 2))
    torch.testing.assert_close(circular.pad(x, sizes, "circular"), functional.pad(x, sizes, "circular"), rtol=0, atol=0)
    assert circular.pad(x, sizes) is NotImplemented


@given(rows=WIDTHS, width=WIDTHS, p=st.sampled_from([1.0, 2.0, 3.0]))
def test_distances_are_torch_s(rows: int, width: int, p: float) -> None:
    x, y = tokens(2, rows, width), tokens(2, 3, width)
    torch.testing.assert_close(distances.dist(x[:, :1], y[:, :1], p), torch.dist(x[:, :1], y[:, :1], p))
    made = distances.cdist(x, y, p)
    torch.testing.assert_close(made, torch.cdist(x, y, p))


@given(sides=st.tuples(*[st.sampled_from([1, 2, 4, 6])] * 2), parts=st.tuples(*[st.integers(1, 3)] * 2))
def test_largest_of_parts_are_torch_s(sides: tuple[int, int], parts: tuple[int, int]) -> None:
    x = tokens(2, 3, *sides)
    made = pools.adaptive_max_pool2d(x, parts)
    torch.testing.assert_close(made, functional.adaptive_max_pool2d(x, parts, return_indices=True), rtol=0, atol=0)
    row = functional.adaptive_max_pool1d(x[..., 0, :], parts[1], return_indices=True)
    torch.testing.assert_close(pools.adaptive_max_pool1d(x[..., 0, :], parts[1:]), row, rtol=0, atol=0)


@given(
    kernel=st.tuples(*[st.integers(1, 3)] * 3),
    stride=st.tuples(*[st.integers(1, 3)] * 3),
    padded=st.booleans(),
    ceil_mode=st.booleans(),
    lead=st.sampled_from([(), (2,)]),
)
def test_pools_of_windows_of_volumes_are_torch_s(
    kernel: tuple[int, ...], stride: tuple[int, ...], padded: bool, ceil_mode: bool, lead: tuple[int, ...]
) -> None:
    x = tokens(*lead, 3, 5, 4, 7)
    padding = [size // 2 * padded for size in kernel]
    right = functional.max_pool3d(x, kernel, stride, padding, 1, ceil_mode, return_indices=True)
    close = partial(torch.testing.assert_close, rtol=0, atol=0)
    close(volumes.max_pool3d(x, kernel, stride, padding, [1], ceil_mode), right[0])
    close(volumes.with_places(x, kernel, stride, padding, [1], ceil_mode), right)
    close(volumes.adaptive_max_pool3d(x, kernel), functional.adaptive_max_pool3d(x, kernel, return_indices=True))
    for how in product((True, False), (None, 5)):
        made = volumes.avg_pool3d(x, kernel, stride, padding, ceil_mode, *how)
        torch.testing.assert_close(made, functional.avg_pool3d(x, kernel, stride, padding, ceil_mode, *how))
    torch.testing.assert_close(volumes.avg_pool3d(x, kernel), functional.avg_pool3d(x, kernel))


@given(width=WIDTHS, dim=st.integers(-2, 1), keepdim=st.booleans(), descending=st.booleans(), data=st.data())
def test_what_sorting_finds_is_torch_s(
    width: int, dim: int, keepdim: bool, descending: bool, data: st.DataObject
) -> None:
    x = torch.rand(width * 3, dtype=torch.float64).argsort().reshape(3, width).double()  # no two equal
    k = data.draw(st.integers(1, x.shape[dim]))
    made = ordered.sort(x, dim, descending), ordered.kthvalue(x, k, dim, keepdim), ordered.median(x, dim, keepdim)
    right = x.sort(dim, descending), x.kthvalue(k, dim, keepdim), x.median(dim, keepdim)
    assert ordered.median_of_all(x) == x.median()
    for mine, torchs in zip(made, right, strict=True):
        torch.testing.assert_close(mine, tuple(torchs), rtol=0, atol=0)


@given(width=st.sampled_from([2, 13, 63]), correction=st.sampled_from([0, 1, None]), keepdim=st.booleans())
def test_variances_with_means_are_torch_s(width: int, correction: int | None, keepdim: bool) -> None:
    x = tokens(2, 3, width)
    for dims in ([-1], [0, 2], None):
        made = variances.var_mean(x, dims, correction=correction, keepdim=keepdim)
        torch.testing.assert_close(made, torch.var_mean(x, dims, correction=correction, keepdim=keepdim))
        made = variances.std_mean(x, dims, correction=correction, keepdim=keepdim)
        torch.testing.assert_close(made, torch.std_mean(x, dims, correction=correction, keepdim=keepdim))
        for operation, function in (
            (torch.ops.aten.var.correction, torch.var),
            (torch.ops.aten.std.correction, torch.std),
        ):
            one = variances.TABLE[operation](x, dims, correction=correction, keepdim=keepdim)
            if correction is not None:
                assert one is NotImplemented
            else:
                torch.testing.assert_close(one, function(x, dims, keepdim=keepdim))


@given(width=st.sampled_from([2, 13, 63]), affine=st.booleans(), rank=st.integers(1, 3))
def test_a_norm_of_instances_is_torch_s(width: int, affine: bool, rank: int) -> None:
    x = tokens(2, 3, *[2] * (rank - 1), width)
    w, b = (tokens(3), tokens(3)) if affine else (None, None)
    made = instance_norm.instance_norm(x, w, b, None, None, True, 0.1, 1e-5, False)
    torch.testing.assert_close(made, functional.instance_norm(x, None, None, w, b, True, 0.1, 1e-5))
    assert instance_norm.instance_norm(x, w, b, None, None, False, 0.1, 1e-5, False) is NotImplemented


@given(x=st.floats(-700, 700), beta=FACTORS, threshold=st.sampled_from([-2.0, 0.0, 0.3, 5.0, 20.0]))
def test_softplus_is_torch_s(x: float, beta: float, threshold: float) -> None:
    at = torch.tensor([x, torch.inf, -torch.inf], dtype=torch.float64)
    exact = functional.softplus(at, beta, threshold)
    torch.testing.assert_close(activations.softplus(at, beta, threshold), exact, rtol=1e-7, atol=2e-9 / beta)


@given(x=st.floats(-700, 700), alpha=FACTORS, scale=FACTORS, input_scale=FACTORS)
def test_elu_is_torch_s(x: float, alpha: float, scale: float, input_scale: float) -> None:
    at = torch.tensor([x], dtype=torch.float64)
    exact = torch.ops.aten.elu.default(at, alpha, scale, input_scale)
    torch.testing.assert_close(activations.elu(at, alpha, scale, input_scale), exact)


@given(x=st.floats(-700, 700))
def test_gelu_by_tanh_is_torch_s_and_the_exact_one_is_left_alone(x: float) -> None:
    at = torch.tensor([x], dtype=torch.float64)
    exact = functional.gelu(at, approximate="tanh")
    torch.testing.assert_close(gelu.gelu(at, approximate="tanh"), exact)
    torch.testing.assert_close(gelu_by_tanh.gelu(at, approximate="tanh"), exact)
    half = gelu.gelu(at.half(), approximate="tanh").double()  # where a square has no number
    assert (half - exact).abs() <= 2e-3 * max(1.0, abs(x))
    assert gelu.gelu(at) is gelu_by_tanh.gelu(at) is NotImplemented


@given(scale=st.sampled_from([1e-5, 1e-4, 1e-2, 1.0, 30.0]))
def test_elu_keeps_what_is_small(scale: float) -> None:
    x = scale * torch.randn(1000, generator=torch.Generator().manual_seed(0))
    exact = functional.elu(x.double())
    assert ((activations.elu(x) - exact).square().sum() / exact.square().sum()).log10() < -12


@pytest.mark.parametrize("operation", [lambda x: x * 2, functional.softplus, functional.elu, lambda x: x[None].mean(0)])
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch.export, of torch's own pytree
def test_a_single_number_stays_one(operation: Callable[[Tensor], Tensor]) -> None:
    class Single(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([operation(x.amax()), x.sum()])

    x = torch.randn(3, 5)
    program = torch.export.export(Single(), (x,))
    rewritten = rewrites.apply(program, ["activations", "scalars", "mean", "reshapes"])
    torch.testing.assert_close(rewritten.module()(x), program.module()(x))


@given(x=st.floats(-300, 300))
def test_activations_hold_in_float16_also_where_it_has_no_exponential(x: float) -> None:
    half = torch.tensor([x], dtype=torch.float16)
    for formula, function in ((activations.softplus, functional.softplus), (activations.elu, functional.elu)):
        exact = function(half.double())
        assert (formula(half).double() - exact).abs() <= 1e-3 * max(1.0, abs(x))


@given(x=st.floats(-9, 20))
def test_softplus_has_the_precision_of_float16_in_it(x: float) -> None:
    """Down to where exp(x) is a number that float16 has all bits of, each result is right to a few roundings."""
    half = torch.tensor([x], dtype=torch.float16)
    torch.testing.assert_close(
        activations.softplus(half).double(), functional.softplus(half.double()), rtol=4e-3, atol=0
    )


class Both(nn.Module):
    """A product between each two operations, as in a model."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        first, second, third = self.layers
        y: Tensor = third(1 - functional.elu(second(functional.softplus(first(x)) + 1)))
        return y


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch.export, of torch's own pytree
def test_a_program_with_activations_rewritten_gives_the_same_without_them() -> None:
    model, x = Both().eval(), torch.randn(4, 7, 8)
    program = torch.export.export(model, (x,))
    rewritten = rewrites.apply(program, ["activations"])
    left = {str(node.target) for node in rewritten.graph.nodes if node.op == "call_function"}
    assert {"aten.elu.default", "aten.softplus.default"} <= {str(n.target) for n in program.graph.nodes}
    assert not {"aten.elu.default", "aten.softplus.default"} & left
    torch.testing.assert_close(rewritten.module()(x), model(x))


class Numbers(nn.Module):
    """Whole and broken numbers on either side of a tensor, and among indices, where they must stay whole."""

    def forward(self, x: Tensor) -> Tensor:
        at = torch.arange(x.shape[1] - 1) + 1
        return (1 - ((x[:, at] + 1) * 2 - 0.5) / 3) * True


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize("size", [1, 3, expand.MOST, expand.MOST + 1])
def test_an_expansion_is_copies_unless_they_are_many(size: int) -> None:
    class Expands(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, None].expand(2, size, -1, 5) + 1

    x = torch.randn(2, 7, 1)
    rewritten = rewrites.apply(torch.export.export(Expands(), (x,)), ["expand"])
    torch.testing.assert_close(rewritten.module()(x), Expands()(x))
    kept = any(node.target is torch.ops.aten.expand.default for node in rewritten.graph.nodes)
    assert kept == (size > expand.MOST)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_numbers_become_tensors_of_the_type_that_they_meet(dtype: torch.dtype) -> None:
    model, x = Numbers(), torch.randn(2, 7, 3).to(dtype)
    rewritten = rewrites.apply(torch.export.export(model, (x,)), ["scalars"])
    torch.testing.assert_close(rewritten.module()(x), model(x))
    for node in rewritten.graph.nodes:
        if node.op == "call_function" and node.meta["val"].is_floating_point():
            assert not [a for a in node.args if isinstance(a, int | float)] or "full" in str(node.target), node


class Counts(nn.Module):
    def forward(self, n: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        return 0.9**n, 2**n, n**0.5, n**2, 0.9**x, n + 1, n[0] * 3, 1 - n[0], n[0] / 2, x[0] + 1


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_counts_stay_of_their_type_and_have_torch_s_powers(dtype: torch.dtype) -> None:
    n, x = torch.tensor([0, 1, 7, 12], dtype=dtype), torch.randn(3)
    rewritten = rewrites.apply(torch.export.export(Counts(), (n, x)), ["powers", "scalars"])
    for found, wanted in zip(rewritten.module()(n, x), Counts()(n, x), strict=True):
        assert found.dtype == wanted.dtype
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    names = ("add", "mul", "rsub")
    single = [node for node in rewritten.graph.nodes if node.name.startswith(names) and not node.meta["val"].dim()]
    numbers = {type(argument) for node in single for argument in node.args}
    assert (int in numbers) == (dtype == torch.int64)


@pytest.mark.export
@CONVERTERS_WARN
@pytest.mark.parametrize("target", ["executorch", "tflite"])
@pytest.mark.parametrize("recipe", ["fp32", "fp16", "static_wi8_ai8"])
def test_activations_and_numbers_stay_in_the_delegate(target: str, recipe: str, tmp_path: Path) -> None:
    from edgepass import pipeline
    from edgepass.judging.gates import Gates
    from edgepass.plan import Plan
    from edgepass.samples import Samples
    from edgepass.task import Task

    torch.manual_seed(0)
    draw = partial(torch.randn, 1, 7, 8)
    samples = [Samples(inputs=[torch.stack([draw() for _ in range(n)]).numpy()]) for n in (64, 16)]
    task = Task(name="both", source="test", model=Both(), args=(draw(),), calibration=samples[0], evaluation=samples[1])
    made = pipeline.export(task, Plan.of((target,), (recipe,)), tmp_path / "o", Gates()).artifacts[0]
    casts = ["dim_order_ops._to_dim_order_copy.default"] * 2  # of the input and the output, which stay float32
    assert [f.op for f in made.fallbacks] == (casts if (target, recipe) == ("executorch", "fp16") else [])
    assert made.delegated_flops == 1.0
    assert made.parity is not None
    assert made.parity.sqnr_db >= {"fp32": 100, "fp16": 50, "static_wi8_ai8": 32}[recipe]


@given(lead=st.lists(st.sampled_from([1, 2, 7]), max_size=3), width=WIDTHS, biased=st.booleans())
def test_a_linear_layer_of_rows_is_torch_s(lead: list[int], width: int, biased: bool) -> None:
    x, weight, bias = tokens(*lead, 5), tokens(width, 5), tokens(width) if biased else None
    made = rows.linear(x, weight, bias)
    if len(lead) == 1:
        assert made is NotImplemented
    else:
        torch.testing.assert_close(made, functional.linear(x, weight, bias))


class Parted(nn.Module):
    """[batch, 24] in parts, by each of torch's ways."""

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = x.chunk(3, 1)
        d, e = x.split(13, -1)
        f, g = x.split([5, 19], 1)
        return torch.cat([c, a * b, e, d[:, :3], g, f], 1)


@pytest.mark.export
@CONVERTERS_WARN
def test_a_batch_goes_on_varying_where_features_are_split(tmp_path: Path) -> None:
    program = capture(Parted().eval(), (torch.randn(2, 24),), max_batch=7)
    left = {str(n.target) for n in rewrites.apply(program.exported, ["splits"]).graph.nodes}
    assert not any("split" in name or "chunk" in name for name in left)
    path = tmp_path / "parted.pte"
    exporters.export("executorch", Job(program, recipes.read("fp32")), path)
    inputs = [torch.randn(3, rows, 24) for rows in (2, 1, 3, 7)]
    run = _child.run("executorch", path, [inputs[0].numpy()], batches=[[x.numpy()] for x in inputs[1:]])
    for x, outputs in zip(inputs, [run.outputs, *run.batches], strict=True):
        assert not isinstance(outputs, str), outputs
        torch.testing.assert_close(torch.from_numpy(outputs[0]), torch.stack([Parted()(each) for each in x]))


@pytest.mark.export
@CONVERTERS_WARN
@pytest.mark.parametrize("layer", [nn.LSTM(5, 7, num_layers=2), nn.GRU(5, 7)], ids=["lstm", "gru"])
def test_a_recurrent_layer_is_one_part_of_the_delegate(layer: nn.Module, tmp_path: Path) -> None:
    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.layer(x)[0]
            return y

    program = capture(First().eval(), (torch.randn(3, 1, 5),))
    lowered = exporters.export("executorch", Job(program, recipes.read("fp32")), tmp_path / "recurrent.pte")
    assert not lowered.fallbacks, "each splits its gates at every step"
