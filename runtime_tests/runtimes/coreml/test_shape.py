"""Core ML's shapes, slices and paddings are numpy's and torch's."""

from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepass.runtimes.coreml._file import quiet

with quiet():
    from coremltools.converters.mil.mil import Builder as mb
from runtime_tests.runtimes.coreml.operations import COREMLTOOLS_WARNS, check, floats

pytestmark = COREMLTOOLS_WARNS


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
    check(lambda x: mb.split(x=x, split_sizes=[5], axis=2), lambda x: x, x)
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
