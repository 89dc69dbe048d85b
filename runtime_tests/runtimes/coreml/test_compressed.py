"""Compressed weights in a Core ML package are what coremltools decompresses them to."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgepass.judging import parity
from edgepass.runtimes import coreml
from edgepass.runtimes.coreml._file import open_package, quiet
from edgepass.runtimes.coreml._program import read_function
from edgepass.runtimes.coreml._quant import decompress

with quiet():
    import coremltools as ct
    import coremltools.optimize.coreml as cto
from runtime_tests.runtimes.coreml.converted import convert, make
from runtime_tests.runtimes.coreml.operations import COREMLTOOLS_WARNS

pytestmark = COREMLTOOLS_WARNS


def compressed(kind: str) -> Any:
    kind, old, _ = kind.partition(" on iOS 17")  # which stores the same forms by other operations
    model = convert(make("transformer"), target=ct.target.iOS17 if old else ct.target.iOS18)
    with quiet():
        if kind == "palette of int8":
            model = cto.palettize_weights(model, palette(nbits=4))
            options = linear("linear_symmetric", granularity="per_tensor")
            return cto.linear_quantize_weights(model, options, joint_compression=True)
        if kind == "palette, scaled":
            return cto.palettize_weights(model, palette(nbits=4, enable_per_channel_scale=True))
        if kind == "sparse int8":
            model = cto.prune_weights(model, pruned())
            return cto.linear_quantize_weights(model, linear("linear_symmetric"), joint_compression=True)
        if kind == "sparse palette":
            return cto.palettize_weights(cto.prune_weights(model, pruned()), palette(nbits=4), joint_compression=True)
        if kind == "sparse":
            return cto.prune_weights(model, pruned())
        if kind.startswith("palette"):
            return cto.palettize_weights(model, palette(nbits=int(kind[-1])))
        if kind == "int4 blocks":
            return cto.linear_quantize_weights(
                model, linear("linear_symmetric", dtype="int4", granularity="per_block", block_size=8)
            )
        return cto.linear_quantize_weights(model, linear(kind))


def linear(mode: str, **options: Any) -> Any:
    return cto.OptimizationConfig(cto.OpLinearQuantizerConfig(mode=mode, weight_threshold=64, **options))


def palette(**options: Any) -> Any:
    return cto.OptimizationConfig(cto.OpPalettizerConfig(mode="uniform", weight_threshold=64, **options))


def pruned() -> Any:
    return cto.OptimizationConfig(cto.OpMagnitudePrunerConfig(target_sparsity=0.5, weight_threshold=64))


COMPRESSED = {  # how -> the storage and granularity of up.weight
    "linear_symmetric": ("int8", "per-channel"),
    "linear": ("int8", "per-channel"),
    "int4 blocks": ("int4", "per-block"),
    "palette 4": ("uint4", "per-tensor"),
    "palette 6": ("uint6", "per-tensor"),
    "palette 1": ("uint1", "per-tensor"),
    "sparse": ("float32", None),
    "sparse int8": ("int8", "per-channel"),
    "sparse palette": ("uint4", "per-tensor"),
    "linear_symmetric on iOS 17": ("int8", "per-channel"),
    "palette 4 on iOS 17": ("uint4", "per-tensor"),
    "sparse on iOS 17": ("float32", None),
    "palette of int8": ("uint4", "per-tensor"),
    "palette, scaled": ("uint4", "per-channel"),
}


NESTED = {"palette of int8", "palette, scaled"}
"""One compressed constant inside another; coremltools' own decompression does not follow these."""


@pytest.mark.parametrize("kind", COMPRESSED)
def test_compressed_weights_are_what_coremltools_decompresses_them_to(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "m.mlpackage"
    model = compressed(kind)
    model.save(str(path))
    x = np.random.default_rng(0).normal(size=(1, 12, 5)).astype(np.float32)
    (actual,) = coreml.load(path, 1)([x])
    if kind not in NESTED:
        with quiet():
            cto.decompress_weights(model).save(str(tmp_path / "dense.mlpackage"))
        (dense,) = coreml.load(tmp_path / "dense.mlpackage", 1)([x])
        np.testing.assert_array_equal(actual, dense)
    weight = next(w for w in coreml.inspect(path).weights if w.shape == (32, 16))
    assert (weight.dtype, weight.granularity) == COMPRESSED[kind]
    assert (weight.zeros == pytest.approx(0.5, abs=0.02)) == kind.startswith("sparse")
    exact = make("transformer")
    with torch.no_grad():
        assert parity.compare(exact(torch.tensor(x)).numpy(), actual).sqnr_db > (-5 if kind == "palette 1" else 5)


def test_nested_compression_is_followed_to_the_end(tmp_path: Path) -> None:
    dense = {}
    for kind in ("palette 4", *NESTED):
        compressed(kind).save(str(tmp_path / f"{kind}.mlpackage"))
        function = read_function(open_package(tmp_path / f"{kind}.mlpackage"))
        linears = [o for o in function.operations if o.op_type == "linear" and o.weight.shape == (32, 16)]
        dense[kind] = decompress(linears[0].weight)
    step = np.abs(dense["palette 4"]).max() / 127
    np.testing.assert_allclose(dense["palette of int8"], dense["palette 4"], atol=step)
    exact = make("transformer").up.weight.detach().numpy()
    # Sixteen even steps over each channel's own range, where the palette alone has sixteen over the tensor's.
    error = np.abs(dense["palette, scaled"] - exact).mean()
    assert 0 < error < np.abs(dense["palette 4"] - exact).mean() * 1.25
