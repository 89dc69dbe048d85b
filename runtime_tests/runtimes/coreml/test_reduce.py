"""Core ML's sums, extremes and orders are torch's, and float16 is rounded where a device rounds."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepass.runtimes.coreml._file import quiet

with quiet():
    from coremltools.converters.mil.mil import Builder as mb
from runtime_tests.runtimes.coreml.operations import COREMLTOOLS_WARNS, PRECISIONS, Build, check, floats, rng, run

pytestmark = COREMLTOOLS_WARNS


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
