"""What Core ML does to images is torch's where torch has it, and as documented where not."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from edgepass.runtimes.coreml._file import quiet

with quiet():
    from coremltools.converters.mil.mil import Builder as mb
from runtime_tests.runtimes.coreml.operations import COREMLTOOLS_WARNS, check, floats

pytestmark = COREMLTOOLS_WARNS


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
