"""Core ML operations on the last two axes of images: resizing, resampling, blocks of pixels, cropping.

B = batch, C = channels, H = height, W = width, b = block size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from edgepass.runtimes.coreml._node import Node, Run, handles, wide


def grid(mode: str, size: int, out: int) -> Tensor:
    """Where along an axis of `size` the `out` samples lie; formulas from resize_bilinear's documentation."""
    i = torch.arange(out, dtype=torch.float64)
    if mode == "UNALIGN_CORNERS":
        places = (i + 0.5) * (size / out) - 0.5
    elif mode == "OFFSET_CORNERS":
        places = (i + 0.5) * (max(1, size - 1) / out)
    elif mode == "DEFAULT":
        places = i * (size / out)
    elif out == 1:
        places = i if mode == "STRICT_ALIGN_CORNERS" else i + (size - 1) / 2
    else:
        places = i * ((size - 1) / (out - 1))
    return places.clamp(0, size - 1)


def _interpolate(x: Tensor, axis: int, places: Tensor, linear: bool, mode: str) -> Tensor:
    if not linear:
        # Nearest is the sample to the left in the default mode, as torch and TensorFlow have it.
        index = places.floor() if mode == "DEFAULT" else (places + 0.5).floor().clamp(max=x.shape[axis] - 1)
        return x.index_select(axis, index.long())
    x = wide(x)
    low = places.floor().long()
    weight = (places - low).float().reshape([-1] + [1] * (x.dim() - 1 - axis % x.dim()))
    high = (low + 1).clamp(max=x.shape[axis] - 1)
    return torch.lerp(x.float().index_select(axis, low), x.float().index_select(axis, high), weight)


def _resize(x: Tensor, sizes: list[int], linear: bool, mode: str) -> Tensor:
    for axis, size in enumerate(sizes, x.dim() - len(sizes)):
        if size != x.shape[axis] or mode == "OFFSET_CORNERS":
            x = _interpolate(x, axis, grid(mode, x.shape[axis], size), linear, mode)
    return x


@handles("resize_bilinear", "resize_nearest_neighbor")
def _resize_to(node: Node) -> Run:
    sizes = [int(node.get("target_size_height", 1)), int(node.get("target_size_width", 1))]
    linear, mode = node.kind == "resize_bilinear", node.get("sampling_mode", "DEFAULT")
    return lambda x: _resize(x, sizes, linear, mode)


@handles("resize")
def _resize_like(node: Node) -> Run:
    count, mode = int(node.get("resized_dims")), node.get("sampling_mode", "DEFAULT")
    linear = node.get("interpolation_mode", "LINEAR") == "LINEAR"

    def run(x: Tensor, shape: Tensor) -> Tensor:
        asked = shape.tolist()[len(shape) - count :]
        return _resize(x, [n or d for n, d in zip(asked, x.shape[x.dim() - count :], strict=True)], linear, mode)

    return run


@handles("upsample_bilinear")
def _upsample_bilinear(node: Node) -> Run:
    scales = [node.get("scale_factor_height", 1), node.get("scale_factor_width", 1)]
    align = node.get("align_corners", True)
    centres = node.get("half_pixel_centers", not align)
    mode = "STRICT_ALIGN_CORNERS" if align else "UNALIGN_CORNERS" if centres else "DEFAULT"
    return lambda x: _resize(x, [int(s * d) for s, d in zip(scales, x.shape[-2:], strict=True)], True, mode)


@handles("upsample_nearest_neighbor")
def _upsample_nearest(node: Node) -> Run:
    scales = [node.get("scale_factor_height", 1), node.get("scale_factor_width", 1)]

    def run(x: Tensor) -> Tensor:
        for axis, scale in zip((-2, -1), scales, strict=True):
            i = torch.arange(int(x.shape[axis] * scale), dtype=torch.float64)
            x = x.index_select(axis, (i / scale).long().clamp(max=x.shape[axis] - 1))
        return x

    return run


@handles("resample")
def _resample(node: Node) -> Run:
    mode, align = node.get("coordinates_mode"), node.get("align_corners")
    linear, edge, fill = node.get("sampling_mode") == "bilinear", node.get("padding_mode"), node.get("padding_value")

    def pixels(c: Tensor, size: int) -> Tensor:
        if mode == "unnormalized":
            return c
        unit = (c + 1) / 2 if mode == "normalized_minus_one_to_one" else c
        return unit * (size - 1) if align else unit * size - 0.5

    def run(x: Tensor, coordinates: Tensor) -> Tensor:
        x_BCHW, c = wide(x), coordinates.float()
        return _sample(x_BCHW, pixels(c[..., 0], x.shape[3]), pixels(c[..., 1], x.shape[2]), linear, edge, fill)

    return run


@handles("affine")
def _affine(node: Node) -> Run:
    height, width = int(node.get("output_height")), int(node.get("output_width"))

    def run(x: Tensor, transform_matrix: Tensor) -> Tensor:
        matrix = wide(transform_matrix).expand(len(x), 6).reshape(-1, 2, 3)
        places = F.affine_grid(matrix, [len(x), 1, height, width], align_corners=True)  # BHW2, in -1 … 1
        px, py = ((places[..., k] + 1) / 2 * (x.shape[3 - k] - 1) for k in (0, 1))
        return _sample(wide(x), px, py, True, "constant", 0.0)

    return run


def _sample(x_BCHW: Tensor, px: Tensor, py: Tensor, linear: bool, edge: str, fill: float) -> Tensor:
    """Values at the pixel coordinates `px`, `py` (both BHW of the output)."""
    if not linear:
        return _pick(x_BCHW, px.round(), py.round(), edge, fill)
    x0, y0 = px.floor(), py.floor()
    wx, wy = (px - x0).unsqueeze(1), (py - y0).unsqueeze(1)
    rows = [
        torch.lerp(_pick(x_BCHW, x0, y, edge, fill), _pick(x_BCHW, x0 + 1, y, edge, fill), wx) for y in (y0, y0 + 1)
    ]
    return torch.lerp(rows[0], rows[1], wy)


def _pick(x_BCHW: Tensor, ix: Tensor, iy: Tensor, edge: str, fill: float) -> Tensor:
    height, width = x_BCHW.shape[2:]
    inside = (ix >= 0) & (ix < width) & (iy >= 0) & (iy < height)
    flat = _within(iy, height, edge) * width + _within(ix, width, edge)
    index = flat.flatten(1).unsqueeze(1).expand(-1, x_BCHW.shape[1], -1)
    values = x_BCHW.flatten(2).gather(2, index).unflatten(2, ix.shape[1:])
    return torch.where(inside.unsqueeze(1), values, fill) if edge == "constant" else values


def _within(i: Tensor, size: int, edge: str) -> Tensor:
    if edge == "reflection" and size > 1:
        i = (size - 1) - ((i.abs() % (2 * size - 2)) - (size - 1)).abs()
    elif edge == "symmetric":
        i = torch.where(i < 0, -1 - i, i) % (2 * size)
        i = torch.where(i >= size, 2 * size - 1 - i, i)
    return i.long().clamp(0, size - 1)


@handles("pixel_shuffle")
def _pixel_shuffle(node: Node) -> Run:
    factor = int(node.get("upscale_factor"))
    return lambda x: F.pixel_shuffle(x, factor)


@handles("pixel_unshuffle")
def _pixel_unshuffle(node: Node) -> Run:
    factor = int(node.get("downscale_factor"))
    return lambda x: F.pixel_unshuffle(x, factor)


@handles("depth_to_space")
def _depth_to_space(node: Node) -> Run:
    """The block's position is the outer part of the channel, unlike pixel_shuffle."""
    b = int(node.get("block_size"))

    def run(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = x.reshape(n, b, b, c // (b * b), h, w).permute(0, 3, 4, 1, 5, 2)
        return y.reshape(n, c // (b * b), h * b, w * b)

    return run


@handles("space_to_depth")
def _space_to_depth(node: Node) -> Run:
    b = int(node.get("block_size"))

    def run(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4)
        return y.reshape(n, c * b * b, h // b, w // b)

    return run


@handles("space_to_batch")
def _space_to_batch(node: Node) -> Run:
    (b, d), ((top, bottom), (left, right)) = node.get("block_shape"), node.get("paddings")

    def run(x: Tensor) -> Tensor:
        x = F.pad(x, [left, right, top, bottom])
        n, c, h, w = x.shape
        return x.reshape(n, c, h // b, b, w // d, d).permute(3, 5, 0, 1, 2, 4).reshape(n * b * d, c, h // b, w // d)

    return run


@handles("batch_to_space")
def _batch_to_space(node: Node) -> Run:
    (b, d), ((top, bottom), (left, right)) = node.get("block_shape"), node.get("crops")

    def run(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = x.reshape(b, d, n // (b * d), c, h, w).permute(2, 3, 4, 0, 5, 1).reshape(n // (b * d), c, h * b, w * d)
        return y[:, :, top : h * b - bottom, left : w * d - right]

    return run


@handles("crop")
def _crop(node: Node) -> Run:
    (top, bottom), (left, right) = node.get("crop_height"), node.get("crop_width")
    return lambda x: x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]
