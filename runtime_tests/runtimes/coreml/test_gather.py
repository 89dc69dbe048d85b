"""What Core ML gathers, scatters and makes is what torch does."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from edgepass.runtimes.coreml._file import quiet

with quiet():
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb
from runtime_tests.runtimes.coreml.operations import COREMLTOOLS_WARNS, Build, check, floats, integers

pytestmark = COREMLTOOLS_WARNS


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
