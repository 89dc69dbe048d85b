"""Core ML's quantisation and back is the rounding that it documents."""

from typing import Any

import numpy as np
import pytest
import torch

from edgepass.runtimes.coreml._file import quiet

with quiet():
    from coremltools.converters.mil.mil import Builder as mb
from runtime_tests.runtimes.coreml.operations import COREMLTOOLS_WARNS, check, floats

pytestmark = COREMLTOOLS_WARNS


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("axis", [None, 1])
def test_quantisation_and_back(dtype: str, axis: int | None) -> None:
    x = floats(2, 3, 5, low=-9, high=9)
    scale = np.float32(0.05) if axis is None else np.array([0.05, 0.03, 0.1], np.float32)
    zero = np.array(3 if axis is None else [3, 0, 100], dtype)
    where = {} if axis is None else {"axis": np.int32(axis)}
    zero = zero[()] if axis is None else zero

    def build(x: Any) -> Any:
        q = mb.quantize(input=x, scale=scale, zero_point=zero, output_dtype=dtype, **where)
        return mb.dequantize(input=q, scale=scale, zero_point=zero, **where)

    def reference(x: torch.Tensor) -> torch.Tensor:
        s, z = (torch.tensor(np.asarray(v, np.float64)).reshape(1, -1, 1) for v in (scale, zero))
        info = torch.iinfo(getattr(torch, dtype))
        return (((x.float() / s.float()).round() + z).clamp(info.min, info.max) - z) * s

    check(build, reference, x, ulps=4)
