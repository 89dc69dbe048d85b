"""What the operations of ExecuTorch's Vulkan delegate compute that are not ATen's, in torch.

Their arguments are those of the schemas in backends/vulkan/custom_ops_lib.py (et_vk) and exir's quantized_decomposed,
without the output. Integer ones are computed as the float formula that they stand for: a = s (q - z).

Shapes: I inputs, O outputs of a layer; G groups; H, W height and width of an image.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

INT8 = -128, 127


def _prepack(x: Tensor) -> Tensor:
    """A constant, laid out for the GPU."""
    return x


def _to_dim_order_copy(x: Tensor, *_: Any) -> Tensor:
    """The same numbers in the dtype and layout that the graph declares of the output."""
    return x


def _quantize(x: Tensor, scale: float, zero: int, low: int, high: int, *_: Any) -> Tensor:
    return torch.clamp(torch.round(x / scale) + zero, low, high)


def _dequantize(q: Tensor, scale: float, zero: int, *_: Any) -> Tensor:
    return (q.float() - zero) * scale


def _dequantize_per_channel(q: Tensor, scale_O: Tensor, zero_O: Tensor | None, axis: int, *_: Any) -> Tensor:
    shape = [-1 if d == axis % q.ndim else 1 for d in range(q.ndim)]
    zero = 0 if zero_O is None else zero_O.reshape(shape)
    return (q.float() - zero) * scale_O.reshape(shape)


def _linear(
    x: Tensor,
    scale: float,
    zero: int,
    weight_OI: Tensor,
    _sums: Tensor,
    scale_O: Tensor,
    scale_out: float,
    zero_out: int,
    bias_O: Tensor | None,
    activation: str,
) -> Tensor:
    """An int8 linear layer. Rows and columns of zeros may pad weights to a multiple of four."""
    inputs, outputs = x.shape[-1], weight_OI.shape[0]
    weight_OI = weight_OI[:, :inputs].float() * scale_O[:outputs, None]
    y = functional.linear(_dequantize(x, scale, zero), weight_OI, None if bias_O is None else bias_O[:outputs])
    return _quantize(_activated(y, activation), scale_out, zero_out, *INT8)


def _convolution(
    x: Tensor,
    scale: float,
    zero: int,
    weight: Tensor,
    _sums: Tensor,
    scale_O: Tensor,
    scale_out: float,
    zero_out: int,
    bias_O: Tensor | None,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    activation: str,
) -> Tensor:
    """An int8 convolution of an image; `weight` is [O, H W I/G], as patterns/quantized_convolution.py lays it.

    The formula of custom_ops_lib.py takes it for [O, I/G H W]; nothing but its shapes is ever used there.
    """
    outputs, inputs = weight.shape[0], x.shape[1] // groups
    flat = weight[:, : inputs * kernel[0] * kernel[1]].float() * scale_O[:outputs, None]
    weight_OIHW = flat.reshape(outputs, *kernel, inputs).permute(0, 3, 1, 2)
    bias_O = None if bias_O is None else bias_O[:outputs]
    y = functional.conv2d(
        _dequantize(x, scale, zero), weight_OIHW, bias_O, list(stride), list(padding), list(dilation), groups
    )
    return _quantize(_activated(y, activation), scale_out, zero_out, *INT8)


def _depthwise_convolution(x: Tensor, scale: float, zero: int, weight_HWO: Tensor, *rest: Any) -> Tensor:
    """An int8 convolution of each channel by itself; `weight` is [H, W, O]."""
    return _convolution(x, scale, zero, weight_HWO.permute(2, 0, 1).flatten(1), *rest)


def _convolution_with_clamp(
    x: Tensor,
    weight: Tensor,
    bias_O: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    low: float | None,
    high: float | None,
) -> Tensor:
    y = torch.convolution(x, weight, bias_O, stride, padding, dilation, transposed, output_padding, groups)
    most = torch.finfo(y.dtype).max  # where there is no bound the file has the largest double
    return torch.clamp(y, -most if low is None else max(low, -most), most if high is None else min(high, most))


def _add(
    a: Tensor,
    b: Tensor,
    scale_a: float,
    zero_a: int,
    scale_b: float,
    zero_b: int,
    scale: float,
    zero: int,
    alpha: float,
) -> Tensor:
    return _quantize(_dequantize(a, scale_a, zero_a) + alpha * _dequantize(b, scale_b, zero_b), scale, zero, *INT8)


def _relu(x: Tensor, scale: float, zero: int, scale_out: float, zero_out: int) -> Tensor:
    return _quantize(torch.relu(_dequantize(x, scale, zero)), scale_out, zero_out, *INT8)


def _rms_norm(x: Tensor, weight_I: Tensor, eps: float) -> Tensor:
    return functional.rms_norm(x, weight_I.shape, weight_I, eps)


def _attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float | None) -> Tensor:
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def _activated(y: Tensor, activation: str) -> Tensor:
    if activation not in ("none", "relu"):
        raise ValueError(f"the reference executor lacks the activation {activation}")
    return torch.relu(y) if activation == "relu" else y


FORMULAS: dict[str, Callable[..., Tensor]] = {
    "dim_order_ops._to_dim_order_copy.default": _to_dim_order_copy,
    "et_vk.conv_with_clamp.default": _convolution_with_clamp,
    "et_vk.prepack.default": _prepack,
    "et_vk.q8ta_add.default": _add,
    "et_vk.q8ta_conv2d.default": _convolution,
    "et_vk.q8ta_conv2d_dw.default": _depthwise_convolution,
    "et_vk.q8ta_conv2d_pw.default": _convolution,
    "et_vk.q8ta_linear.default": _linear,
    "et_vk.q8ta_linear_gemv.default": _linear,
    "et_vk.q8ta_relu.default": _relu,
    "et_vk.rms_norm.default": _rms_norm,
    "et_vk.sdpa.default": _attention,
    "quantized_decomposed.dequantize_per_channel.default": _dequantize_per_channel,
    "quantized_decomposed.dequantize_per_tensor.default": _dequantize,
    "quantized_decomposed.quantize_per_tensor.default": _quantize,
}
