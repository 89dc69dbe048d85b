"""Attention whose inputs have no axis of heads, or two, reaches every target: ONNX's converter takes one alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepass import catalog, exporters
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.judging import parity
from edgepass.quantize import recipe
from edgepass.runtimes import _child
from runtime_tests.conftest import CONVERTERS_WARN
from runtime_tests.faults.subject import in_this_process

TARGETS = [name for name in catalog.names("targets") if ":" not in name]
pytestmark = [pytest.mark.export, CONVERTERS_WARN]


class Headless(nn.Module):
    """[B, S, E] attends to itself, without heads and with two axes of them, plainly and under a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 24)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        q, k, v = self.layer(x).chunk(3, -1)
        apart = [t.unflatten(-1, (2, 2, 2)).permute(0, 2, 3, 1, 4) for t in (q, k, v)]
        attend = functional.scaled_dot_product_attention
        return attend(q, k, v), attend(q, k, v, mask > 0), attend(*apart), attend(*apart, mask)


@pytest.mark.parametrize("name", ["fp32", "static_wi8_ai8"])
@pytest.mark.parametrize("target", TARGETS)
def test_attention_without_one_axis_of_heads(target: str, name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Headless().eval()
    rows = [(torch.randn(1, 5, 8), torch.randn(5, 5)) for _ in range(16)]
    path = tmp_path / f"m{exporters.target(target).suffix}"
    exporters.export(target, Job(capture(model, rows[0]), recipe.read(name), lambda: rows), path)
    with torch.no_grad():
        wanted = [np.stack([y.numpy() for y in column]) for column in zip(*(model(*row) for row in rows), strict=True)]
    with in_this_process():
        inputs = [np.stack([x.numpy() for x in column]) for column in zip(*rows, strict=True)]
        outputs = _child.run(exporters.target(target).runtime, path, inputs, latency_runs=1).outputs
    found = [parity.compare(r, o.reshape(r.shape)).sqnr_db for r, o in zip(wanted, outputs, strict=True)]
    assert min(found) > (100 if name == "fp32" else 20), found
