"""Formulas of what converters lack, or get wrong: each gives what torch gives, at awkward sizes."""

import math
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from edgepass.rewrites import (
    averages,
    bags,
    batch_statistics,
    buckets,
    distances,
    edges,
    elementary,
    extremes,
    floors,
    last_windows,
    losses,
    nearest,
    ordered,
    outgrown,
    places,
    products,
    repeats,
    scans,
    scatters,
    slabs,
    smoothed,
    softplus,
    strides,
    stuffed,
    training,
    transposed,
    wholes,
)

SIZES = st.sampled_from([1, 2, 7, 13, 63])
ODD = torch.tensor([-0.0, 0.0, 1.0, -2.0, torch.nan, torch.inf, -torch.inf, 2.5, -2.5])
ATEN = torch.ops.aten


def same(made: Any, right: Any) -> None:
    torch.testing.assert_close(made, tuple(right) if isinstance(right, tuple) else right, equal_nan=True)


@given(size=SIZES, dim=st.integers(-2, 1))
def test_running_products_and_extremes_are_torch_s(size: int, dim: int) -> None:
    x = torch.randn(size, size)
    same(scans.cumprod(x, dim), x.cumprod(dim))
    same(scans.logcumsumexp(x * 5000, dim), (x * 5000).logcumsumexp(dim))
    x = x.round()  # some are equal
    same(scans.cummax(x, dim), torch.cummax(x, dim))
    same(scans.cummin(x, dim), torch.cummin(x, dim))


@pytest.mark.parametrize("name", ["fmax", "fmin", "copysign", "ldexp", "logical_xor", "hypot"])
def test_functions_of_two_numbers_are_torch_s(name: str) -> None:
    x, y = torch.broadcast_tensors(ODD[:, None], ODD)
    if name == "hypot":
        x, y = x.nan_to_num(3, 1e30, -1e30), y.nan_to_num(3, 1e30, -1e30)
    same(getattr(elementary, name)(x, y), getattr(torch, name)(x, y))


@pytest.mark.parametrize("name", ["exp2", "signbit", "angle", "acosh", "asinh", "erfc"])
def test_functions_of_one_number_are_torch_s(name: str) -> None:
    at = torch.cat([ODD, ODD * 1e-6, ODD * 1e12])
    same(getattr(elementary, name)(at), getattr(torch, name)(at))


@given(x=st.floats(-1000, 1000, width=32), y=st.sampled_from([0.3, -1.5, 2.0, 7.0]), decimals=st.integers(-2, 2))
def test_rounded_numbers_are_torch_s(x: float, y: float, decimals: int) -> None:
    at, by = torch.tensor([x, -x, 0.0]), torch.tensor([y])
    same(floors.floor_divide(at, by), torch.floor_divide(at, by))
    same(floors.divide(at, y, rounding_mode="floor"), torch.div(at, y, rounding_mode="floor"))
    same(floors.divide(at, y, rounding_mode=None), at / y)
    same(elementary.rounded(at, decimals=decimals), at.round(decimals=decimals))
    same(elementary.logaddexp2(at, by), torch.logaddexp2(at, by))
    same(elementary.rrelu(at), functional.rrelu(at))
    assert floors.divide(at, y, rounding_mode="trunc") is NotImplemented
    assert floors.floor_divide(at.int(), 2) is NotImplemented


def test_a_softmax_of_a_row_of_minus_infinity_is_zero() -> None:
    x = torch.randn(3, 5, 4)
    x[0, 0] = x[1, 1, 2] = -torch.inf
    same(elementary.safe_softmax(x, -1), ATEN._safe_softmax(x, -1))


@given(size=SIZES, dim=st.integers(-2, 1), descending=st.booleans())
def test_equal_numbers_keep_their_order_where_that_is_asked(size: int, dim: int, descending: bool) -> None:
    x = torch.randn(size, size).round()
    made = ordered.stable_sort(x, stable=True, dim=dim, descending=descending)
    same(made, x.sort(dim=dim, descending=descending, stable=True))
    same(ordered.argsort(x, stable=True, dim=dim, descending=descending), made[1])


@given(size=SIZES, right=st.booleans())
def test_buckets_are_torch_s(size: int, right: bool) -> None:
    x, bounds = torch.randn(3, size).round(), torch.tensor([-1.0, 0.0, 0.5, 2.0])
    same(buckets.bucketize(x, bounds, right=right), torch.bucketize(x, bounds, right=right))
    rows = bounds.expand(3, 4).contiguous()
    same(buckets.searchsorted(rows, x, right=right), torch.searchsorted(rows, x, right=right))


@given(size=SIZES, alpha=st.sampled_from([1.0, -2.0]))
def test_what_is_written_at_places_is_torch_s(size: int, alpha: float) -> None:
    x, mask, at = torch.randn(3, size, 4), torch.rand(3, size, 4) > 0.5, torch.randint(size, (5,))
    values = torch.randn(3, 5, 4)
    same(scatters.masked_scatter(x, mask, x.flip(0)), x.masked_scatter(mask, x.flip(0)))
    same(scatters.masked_scatter(x, mask[:1], x.flip(0)), x.masked_scatter(mask[:1], x.flip(0)))
    same(scatters.index_add(x, 1, at, values, alpha=alpha), x.index_add(1, at, values, alpha=alpha))
    index = torch.randint(size, (2, 5, 3))
    same(scatters.scatter_add(x, 1, index, values), x.scatter_add(1, index, values))
    sites = [torch.tensor([0, 2, -1]), at[:3] - size]
    same(scatters.index_put(x, sites, values[0, :3], True), x.index_put(sites, values[0, :3], True))
    same(scatters.index_put(x, sites[:1], values[0, 0], True), x.index_put(sites[:1], values[0, 0], True))
    assert scatters.index_put(x, sites, values[0, :3]) is NotImplemented


@given(sizes=st.tuples(*[st.integers(1, 13)] * 3), to=st.tuples(*[st.integers(1, 21)] * 3), dims=st.integers(1, 3))
def test_nearest_neighbours_are_torch_s(sizes: tuple[int, ...], to: tuple[int, ...], dims: int) -> None:
    x = torch.randn(2, 3, *sizes[:dims])
    made = nearest.nearest(x, to[:dims])
    if all(n % have == 0 for n, have in zip(to, sizes[:dims], strict=False)):
        assert made is NotImplemented
    else:
        same(made, functional.interpolate(x, to[:dims]))


@pytest.mark.parametrize("factor", [1.5, 0.7, 2.4])
@pytest.mark.parametrize("size", [5, 7, 10, 63])
def test_neighbours_by_a_factor_are_torch_s(size: int, factor: float) -> None:
    x = torch.randn(1, 2, size, 5)
    same(nearest.nearest_by(x, None, [factor] * 2), functional.interpolate(x, scale_factor=factor))
    smooth = functional.interpolate(x, scale_factor=factor, mode="bilinear", antialias=True)
    same(smoothed.smoothed_by(x, None, False, [factor] * 2), smooth)


@given(to=st.tuples(st.integers(1, 21), st.integers(2, 21)), aligned=st.booleans())  # of one column torch repeats a row
def test_smoothed_pictures_are_torch_s(to: tuple[int, int], aligned: bool) -> None:
    x = torch.randn(2, 3, 10, 7)
    right = functional.interpolate(x, to, mode="bilinear", antialias=True, align_corners=aligned)
    same(smoothed.smoothed(x, to, aligned), right)


CONVOLUTION = [*product((1, 2), (1, 2, 3), (0, 1), (1, 2))]
TRANSPOSED = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)


@pytest.mark.parametrize(("groups", "stride", "padding", "dilation"), CONVOLUTION)
def test_convolutions_in_other_forms_are_torch_s(groups: int, stride: int, padding: int, dilation: int) -> None:
    def close(made: Tensor, right: Tensor) -> None:
        torch.testing.assert_close(made, right, rtol=1e-4, atol=1e-4)

    x, weight, bias = torch.randn(2, 4, 7, 6, 5), torch.randn(6, 4 // groups, 3, 2, 1), torch.randn(6)
    right = functional.conv3d(x, weight, bias, stride, padding, dilation, groups)
    close(slabs.conv3d(x, weight, bias, [stride], [padding], [dilation], groups), right)
    close(
        slabs.conv3d(x[0], weight, None, [stride], [padding], [dilation], groups), right[0] - bias[:, None, None, None]
    )
    for dims, function, operation in zip((1, 2, 3), TRANSPOSED, stuffed.TABLE, strict=True):
        x, weight, bias = (
            torch.randn(2, 4, *(5, 4, 6)[:dims]),
            torch.randn(4, 3, *(3, 2, 4)[:dims]),
            torch.randn(3 * groups),
        )
        for more in range(max(stride, dilation)):
            right = function(x, weight, bias, stride, padding, more, groups, dilation)
            for made in (table[operation] for table in (stuffed.TABLE, transposed.TABLE, outgrown.TABLE)):
                y = made(x, weight, bias, [stride], [padding], [more], groups, [dilation])
                if y is not NotImplemented:
                    close(y, right)
            assert dims < 3 or stuffed.TABLE[operation](x, weight) is not NotImplemented


@pytest.mark.filterwarnings("ignore:index_reduce|The reduce argument:UserWarning")  # torch, that they may change
@given(size=SIZES, dim=st.integers(-2, 1), include_self=st.booleans())
def test_what_is_reduced_at_places_is_torch_s(size: int, dim: int, include_self: bool) -> None:
    x, source = torch.randn(7, size), torch.randn(7, size)
    index = torch.randint(min(size, 7), (3, size))
    for reduce in scatters.NEUTRAL:
        made = scatters.scatter_reduce(x, dim, index, source, reduce, include_self=include_self)
        same(made, x.scatter_reduce(dim, index, source, reduce, include_self=include_self))
    along = torch.arange(x.shape[dim]) // 2
    for reduce in ("mean", "prod", "amax", "amin"):
        made = scatters.index_reduce(x, dim, along, source, reduce, include_self=include_self)
        same(made, x.index_reduce(dim, along, source, reduce, include_self=include_self))
    for reduce in ("add", "multiply"):
        made = scatters.scatter_by(x, dim, index, torch.full_like(x, 2), reduce=reduce)
        same(made, x.scatter(dim, index, torch.full_like(x, 2), reduce=reduce))


@given(size=st.sampled_from([3, 7, 13]), stride=st.integers(1, 3))
def test_the_way_back_of_a_pool_is_torch_s(size: int, stride: int) -> None:
    x = torch.randn(2, 3, size, 7)
    y, at = functional.max_pool2d(x, 3, stride, 1, return_indices=True)
    asked = ([3, 3], [stride, stride], [1, 1], [1, 1], False, at)
    same(scatters.unpooled(y, x, *asked), ATEN.max_pool2d_with_indices_backward(y, x, *asked))


@given(
    size=st.sampled_from([5, 7, 13]),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    over_the_end=st.booleans(),
    how=st.sampled_from([(True, None), (False, None), (True, 3)]),
    dims=st.sampled_from([2, 3]),
)
def test_means_of_uncommon_windows_are_torch_s(
    size: int, kernel: int, stride: int, over_the_end: bool, how: tuple[bool, int | None], dims: int
) -> None:
    x = torch.randn(2, 3, *(size, 5, 6)[:dims])
    asked = [[n] * dims for n in (kernel, stride, kernel // 2)]
    operation = (ATEN.avg_pool2d.default, ATEN.avg_pool3d.default)[dims - 2]
    made = averages.TABLE[operation](x, *asked, over_the_end, *how)
    assert (made is NotImplemented) == (not averages.is_uncommon(last_windows.Mean(*asked, over_the_end, *how)))
    if made is not NotImplemented:
        same(made, operation(x, *asked, over_the_end, *how))
        if dims == 2:  # torch has no pool over volumes in float16 on a CPU
            half = averages.TABLE[operation](x.to(torch.float16), *asked, over_the_end, *how)
            assert half.dtype == torch.float16


@given(sides=st.tuples(*[st.integers(-3, 3)] * 4))
def test_edges_that_are_cut_and_repeated_are_torch_s(sides: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, 7, 8)
    made = edges.pad(x, sides, "replicate")
    assert (made is NotImplemented) == (min(sides) >= 0)
    if made is not NotImplemented:
        same(made, functional.pad(x, sides, "replicate"))


@given(shape=st.sampled_from([(5,), (7, 5), (2, 5, 3, 1)]), reduction=st.integers(0, 2), smoothing=st.floats(0, 1))
def test_losses_of_shares_are_torch_s(shape: tuple[int, ...], reduction: int, smoothing: float) -> None:
    x, shares, weight = torch.randn(shape), torch.rand(shape), torch.rand(5)
    for of in (weight, None):
        asked = (x, shares, of, reduction, -100, smoothing)
        same(losses.cross_entropy(*asked), ATEN.cross_entropy_loss(*asked))


@given(size=st.sampled_from([2, 7, 63]), momentum=st.floats(0, 1))
def test_batch_norms_in_training_are_torch_s(size: int, momentum: float) -> None:
    x, weight, bias, mean, var = torch.randn(4, 3, size), *(torch.rand(3) for _ in range(4))
    asked = (x, weight, bias, mean, var, True, momentum, 0.1)
    same(training.with_running(*asked), ATEN._native_batch_norm_legit_functional(*asked))
    same(training.alone(*asked, False), functional.batch_norm(x, None, None, weight, bias, True, momentum, 0.1))
    assert training.alone(*asked[:5], False, momentum, 0.1, False) is NotImplemented


def test_extremes_of_all_numbers_are_torch_s() -> None:
    x = torch.randn(3, 5)
    same(extremes.aminmax(x), tuple(torch.aminmax(x)))
    same(extremes.aminmax(x, dim=1, keepdim=True), tuple(torch.aminmax(x, dim=1, keepdim=True)))
    same(extremes.TABLE[ATEN.amax.default](x), x.amax())
    assert extremes.TABLE[ATEN.amax.default](x, [1]) is NotImplemented


@given(size=SIZES, dim=st.integers(-2, 1), keepdim=st.booleans())
def test_products_are_torch_s(size: int, dim: int, keepdim: bool) -> None:
    x = torch.randn(size, 3) * 2
    same(products.product(x, dim, keepdim), x.prod(dim, keepdim))
    same(products.product(x.int(), dim, keepdim), x.int().prod(dim, keepdim))
    same(products.product_of_all(x[:13]), x[:13].prod())


@given(mode=st.integers(0, 2), padding=st.sampled_from([None, 3]), ends=st.booleans())
def test_bags_of_rows_are_torch_s(mode: int, padding: int | None, ends: bool) -> None:
    rows, at = torch.randn(10, 4), torch.randint(10, (9,))
    offsets = torch.tensor([0, 2, 2, 6] + [9] * ends)
    weights = torch.randn(9) if mode == bags.SUM else None
    given_ = (rows, at, offsets, False, mode, False, weights, ends, padding)
    same(bags.embedding_bag(*given_)[0], torch.embedding_bag(*given_)[0])


@given(size=SIZES, beta=st.sampled_from([1.0, 3.0]), threshold=st.sampled_from([0.2, 5.0]))
def test_what_few_converters_know_is_torch_s(size: int, beta: float, threshold: float) -> None:
    x = torch.randn(2, size, 6, 3)
    same(softplus.softplus(x, beta, threshold), functional.softplus(x, beta, threshold))
    assert softplus.softplus(x) is NotImplemented
    times = torch.randint(4, (size,))
    same(repeats.repeat_interleave(times, output_size=int(times.sum())), torch.repeat_interleave(times))
    same(strides.as_strided(x, (3, 4), (2, 5), 1), x.as_strided((3, 4), (2, 5), 1))
    assert strides.as_strided(x.transpose(0, 3), (1,), (1,)) is NotImplemented
    near = torch.where(x > 0, x, x * 1.001)
    same(elementary.isclose(x, near, 1e-4), torch.isclose(x, near, 1e-4))
    same(
        batch_statistics.layer_norm(x, [6, 3], x[0, 0], None, 1e-5),
        ATEN.native_layer_norm(x, [6, 3], x[0, 0], None, 1e-5),
    )
    given_ = (x, None, x[0, :, 0, 0].clone(), 2, size, 18, size, 1e-3)
    same(batch_statistics.group_norm(*given_), ATEN.native_group_norm(*given_))
    made = batch_statistics.of_the_batch(x, None, None, True, 0.1, 1e-3)
    same(made, ATEN._native_batch_norm_legit.no_stats(x, None, None, True, 0.1, 1e-3))


@given(rows=SIZES, p=st.sampled_from([0.0, 1.0, 2.0, 3.0, math.inf]))
def test_distances_of_all_powers_are_torch_s(rows: int, p: float) -> None:
    x, y = torch.randn(2, rows, 3), torch.randn(2, 5, 3)
    same(distances.cdist(x, y, p), torch.cdist(x, y, p))
    if rows > 1:
        same(distances.pdist(x[0], p), torch.pdist(x[0], p))


WINDOWS = [*product((2, 3), (1, 2, 3), (0, 1), (1, 2), (5, 6, 8))]


@pytest.mark.parametrize(("size", "stride", "padding", "dilation", "side"), WINDOWS)
def test_the_last_windows_are_torch_s(size: int, stride: int, padding: int, dilation: int, side: int) -> None:
    x, given_ = torch.randn(1, 2, side, side + 1), ([size], [stride], [padding], [dilation])
    for over_the_end in (False, True):
        right = functional.max_pool2d(x, size, stride, padding, dilation, over_the_end, return_indices=True)
        same(places.with_places(x, *given_, over_the_end), right)
        in_rows = functional.max_pool1d(x[0], size, stride, padding, dilation, over_the_end, return_indices=True)
        same(places.with_places_of_rows(x[0], *given_, over_the_end), in_rows)
        made = last_windows.max_pool2d(x, *given_, over_the_end)
        if over_the_end:
            same(made, right[0])
        else:
            assert made is NotImplemented
        if dilation > 1:
            same(places.dilated(x, *given_, over_the_end), right[0])
    same(last_windows.avg_pool2d(x, *given_[:3]), functional.avg_pool2d(x, size, stride, padding))


@pytest.mark.parametrize("operation", wholes.TABLE)
def test_what_is_found_over_all_is_torch_s(operation: Any) -> None:
    x = torch.randn(3, 4, 5)
    same(wholes.TABLE[operation](x), operation(x))
    assert wholes.TABLE[operation](x.sum()) is NotImplemented
