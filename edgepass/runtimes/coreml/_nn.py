"""Core ML operations with weights or windows: matrix products, convolutions, pools, norms, attention, softmax.

B = batch, C = channels, S = any number of spatial axes. All accumulate in fp32; an fp16 result is rounded once.
"""

from collections.abc import Callable, Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from edgepass.runtimes.coreml._node import Node, Run, handles, positive, wide

Window = tuple[list[int], list[int]]
"""Padding before and after each spatial axis."""


@handles("linear")
def _linear(node: Node) -> Run:
    weight, bias = node.tensor("weight"), node.tensor("bias")
    if weight is None:
        return lambda x, weight, bias: F.linear(wide(x), wide(weight), None if bias is None else wide(bias))
    if node.half:
        return lambda x: F.linear(x.float(), weight, bias)
    return lambda x: F.linear(x, weight, bias)


@handles("matmul")
def _matmul(node: Node) -> Run:
    tx, ty = node.get("transpose_x", False), node.get("transpose_y", False)

    def run(x: Tensor, y: Tensor) -> Tensor:
        x, y = wide(x), wide(y)
        return torch.matmul(x.transpose(-1, -2) if tx else x, y.transpose(-1, -2) if ty else y)

    return run


@handles("einsum")
def _einsum(node: Node) -> Run:
    equation = node.get("equation")
    return lambda values: torch.einsum(equation, *[wide(v) for v in values])


@handles("scaled_dot_product_attention")
def _attention(node: Node) -> Run:
    def run(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None) -> Tensor:
        mask = attn_mask if attn_mask is None else wide(attn_mask)
        return F.scaled_dot_product_attention(wide(query), wide(key), wide(value), mask)

    return run


@handles("softmax")
def _softmax(node: Node) -> Run:
    axis = node.get("axis", -1)
    return lambda x: torch.softmax(x, axis, dtype=torch.float32)


@handles("conv")
def _conv(node: Node) -> Run:
    n = node.ranks["x"] - 2
    stride, dilation = node.ints("strides", [1] * n), node.ints("dilations", [1] * n)
    groups = node.get("groups", 1)
    convolve: Callable[..., Tensor] = (F.conv1d, F.conv2d, F.conv3d)[n - 1]

    def run(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        extent = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
        before, after = _padding(node, x.shape[2:], extent, stride)
        x = wide(x)
        if before != after:
            x, before = F.pad(x, _torch_pad(before, after)), [0] * n
        return convolve(x, weight, bias, stride, before, dilation, groups)

    constant, offset = node.tensor("weight"), node.tensor("bias")
    if constant is None:
        return lambda x, weight, bias: run(x, wide(weight), None if bias is None else wide(bias))
    return lambda x: run(x, constant, offset)


@handles("conv_transpose")
def _conv_transpose(node: Node) -> Run:
    n = node.ranks["x"] - 2
    stride, dilation = node.ints("strides", [1] * n), node.ints("dilations", [1] * n)
    groups, kind = node.get("groups", 1), node.get("pad_type", "valid")
    weight, bias, asked = node.tensor("weight"), node.tensor("bias"), node.ints("output_shape")
    pad = node.ints("pad", [0] * 2 * n) if kind == "custom" else [0] * 2 * n
    convolve: Callable[..., Tensor] = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[n - 1]

    def run(x: Tensor) -> Tensor:
        y = convolve(wide(x), weight, None, stride, 0, 0, groups, dilation)
        for i, full in enumerate(y.shape[2:]):
            size = full - pad[2 * i] - pad[2 * i + 1]
            start = pad[2 * i]
            if kind in {"same", "same_lower"}:
                size = x.shape[2 + i] * stride[i]
                start = max(0, full - size) // 2
            if asked:
                size = asked[2 + i]
            if start + size > full:
                y = F.pad(y, [0, 0] * (n - 1 - i) + [0, start + size - full])
            y = y.narrow(2 + i, start, size)
        return y if bias is None else y + bias.reshape([-1] + [1] * n)

    return run


@handles("avg_pool", "max_pool", "l2_pool")
def _pool(node: Node) -> Run:
    n = node.ranks["x"] - 2
    kernel = node.ints("kernel_sizes")
    stride, ceil = node.ints("strides", [1] * n), node.get("ceil_mode", False)
    exclude = node.get("exclude_padding_from_average", False)
    maximum: Callable[..., Tensor] = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[n - 1]
    average: Callable[..., Tensor] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[n - 1]

    def run(x: Tensor) -> Tensor:
        before, after = _padding(node, x.shape[2:], kernel, stride)
        x = wide(x)
        fits = before == after and all(2 * p <= k for p, k in zip(before, kernel, strict=True))  # what torch takes
        pad = _torch_pad(before, after)
        if node.kind == "max_pool":
            x, inside = (x, before) if fits else (F.pad(x, pad, value=-torch.inf), [0] * n)
            return maximum(x, kernel, stride, inside, ceil_mode=ceil)
        if node.kind == "l2_pool":
            x = F.pad(x.square(), pad)
            return (average(x, kernel, stride, 0, ceil) * prod(kernel)).sqrt()
        if fits:
            return average(x, kernel, stride, before, ceil, not exclude)
        y = average(F.pad(x, pad), kernel, stride, 0, ceil)
        return y / average(F.pad(torch.ones_like(x), pad), kernel, stride, 0, ceil) if exclude else y

    return run


@handles("layer_norm")
def _layer_norm(node: Node) -> Run:
    rank = node.ranks["x"]
    axes = sorted(positive(node.ints("axes", list(range(rank))), rank))
    gamma, beta, epsilon = node.tensor("gamma"), node.tensor("beta"), node.get("epsilon", 1e-5)
    if axes == list(range(rank - len(axes), rank)):
        first = axes[0] if axes else rank
        return lambda x: F.layer_norm(wide(x), x.shape[first:], gamma, beta, epsilon)

    def run(x: Tensor) -> Tensor:
        x = wide(x)
        shape = [d if i in axes else 1 for i, d in enumerate(x.shape)]
        y = _standardise(x, axes, epsilon)
        y = y if gamma is None else y * gamma.reshape(shape)
        return y if beta is None else y + beta.reshape(shape)

    return run


@handles("instance_norm")
def _instance_norm(node: Node) -> Run:
    rank, epsilon = node.ranks["x"], node.get("epsilon", 1e-5)
    shape = [1, -1] + [1] * (rank - 2)
    gamma, beta = node.tensor("gamma"), node.tensor("beta")

    def run(x: Tensor) -> Tensor:
        y = _standardise(wide(x), list(range(2, rank)), epsilon)
        y = y if gamma is None else y * gamma.reshape(shape)
        return y if beta is None else y + beta.reshape(shape)

    return run


@handles("batch_norm")
def _batch_norm(node: Node) -> Run:
    mean, variance = node.tensor("mean"), node.tensor("variance")
    gamma, beta, epsilon = node.tensor("gamma"), node.tensor("beta"), node.get("epsilon", 1e-5)
    return lambda x: F.batch_norm(wide(x), mean, variance, gamma, beta, False, 0.0, epsilon)


@handles("l2_norm")
def _l2_norm(node: Node) -> Run:
    epsilon = node.get("epsilon", 1e-6)

    def run(x: Tensor) -> Tensor:
        x = wide(x)
        return x / torch.sqrt(x.square().sum((-3, -2, -1), keepdim=True) + epsilon)

    return run


@handles("local_response_norm")
def _local_response_norm(node: Node) -> Run:
    size, alpha, beta, k = node.get("size"), node.get("alpha", 1e-4), node.get("beta", 0.75), node.get("k", 1.0)
    return lambda x: F.local_response_norm(wide(x), size, alpha, beta, k)


def _standardise(x: Tensor, axes: list[int], epsilon: float) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(axes, keepdim=True) + epsilon)


def _padding(node: Node, spatial: Sequence[int], extent: Sequence[int], stride: Sequence[int]) -> Window:
    """Padding of a window: `same` makes out = ceil(in / stride) with the odd one after, `same_lower` before."""
    kind = node.get("pad_type", "valid")
    if kind == "valid":
        return [0] * len(extent), [0] * len(extent)
    if kind == "custom":
        pad = node.ints("pad", [0] * 2 * len(extent))
        return pad[::2], pad[1::2]
    total = [max(0, (-(-d // s) - 1) * s + k - d) for d, k, s in zip(spatial, extent, stride, strict=True)]
    less, more = [t // 2 for t in total], [t - t // 2 for t in total]
    return (less, more) if kind == "same" else (more, less)


def _torch_pad(before: Sequence[int], after: Sequence[int]) -> list[int]:
    pairs = list(zip(before, after, strict=True))
    return [p for pair in reversed(pairs) for p in pair]
