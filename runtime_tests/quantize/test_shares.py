"""Shares of one, as softmax gives, are int8 in steps of which one has a whole number."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from edgepass import exporters
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.judging import operations
from edgepass.quantize import recipe, shares
from edgepass.runtimes import _child
from edgepass.samples import Samples
from runtime_tests.conftest import CONVERTERS_WARN


@given(st.floats(1e-6, 1 / 255))
def test_a_whole_number_of_steps_is_one(step: float) -> None:
    found = shares.share(step)
    count = np.float32(1) / np.float32(found)
    assert count - np.floor(count) <= 1e-6 * count
    assert step * (1 - 1e-5) <= found <= step * (1 + step + 1e-5)


class Shares(nn.Module):
    """A softmax over four, between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(5, 7, 1), nn.Conv2d(7, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x).softmax(-1))
        return y


@pytest.mark.export
@CONVERTERS_WARN
def test_a_softmax_of_int8_is_as_often_rounded_up_as_down(tmp_path: Path) -> None:
    """onnxruntime's had a share of 0.25 a quarter of a step too little."""
    torch.manual_seed(0)
    model, x = Shares().eval(), 9 * torch.randn(16, 1, 5, 13, 4)
    job = Job(capture(model, (x[0],)), recipe.read("static_wi8_ai8"), lambda: [(row,) for row in x])
    exporters.export("onnx", job, path := tmp_path / "shares.onnx")
    tensors = operations.Graph(job.realised).tensors(Samples(inputs=[x.numpy()]))
    assert tensors
    run = _child.run(
        "onnx", path, [x.numpy()], scales=tensors.scales, tensors=tensors.values, arguments=tensors.arguments
    )
    assert run.steps
    (step,) = (step for step in run.steps if "softmax" in tensors.names[step.tensor])
    assert abs(step.bias) < 0.02
