"""Core ML's products, attention, convolutions, pools and norms are torch's."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from edgepass.runtimes.coreml._file import quiet

with quiet():
    from coremltools.converters.mil.mil import Builder as mb
from runtime_tests.runtimes.coreml.operations import COREMLTOOLS_WARNS, PRECISIONS, check, floats, rng

pytestmark = COREMLTOOLS_WARNS


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
