"""What ExecuTorch's kernels lack is refused before a file is written, and what they write is read as it was written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgepass import exporters, runtimes
from edgepass.errors import RefusedError
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.quantize import recipe
from runtime_tests.conftest import CONVERTERS_WARN

pytestmark = [pytest.mark.export, CONVERTERS_WARN]


class Calls(nn.Module):
    """A function of the input."""

    def __init__(self, function: Callable[[Tensor], tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.function(x)


def written(function: Callable[[Tensor], tuple[Tensor, ...]], x: Tensor, path: Path) -> Path:
    """A .pte of it."""
    exporters.export("executorch", Job(capture(Calls(function), (x,)), recipe.read("fp32")), path)
    return path


def test_what_is_laid_out_by_columns_is_read_so(tmp_path: Path) -> None:
    x = torch.randn(4, 3, 5).relu()

    def places(x: Tensor) -> tuple[Tensor, ...]:
        return torch.argwhere(x), *torch.where(x > 0.5)

    path = written(places, x, tmp_path / "places.pte")
    runtimes.runtime("executorch").prepare(path)
    given = runtimes.runtime("executorch").load(path, threads=1)([x.numpy()])
    for mine, right in zip(given, places(x), strict=True):
        np.testing.assert_array_equal(mine, right.numpy())


def test_what_has_no_kernel_is_refused_by_its_name_and_line(tmp_path: Path) -> None:
    def back(x: Tensor) -> tuple[Tensor, ...]:
        return (torch.ops.aten.avg_pool2d_backward(x[..., ::2, ::2], x, [2, 2], [2, 2], [0, 0], False, True, None),)

    path = tmp_path / "back.pte"
    why = r"at test_kernels\.py:\d+, `return .*`: it has no aten\.avg_pool2d_backward, nor"
    with pytest.raises(RefusedError, match=why):
        written(back, torch.randn(1, 2, 4, 6), path)
    assert not path.exists()
