"""int8 is as good for signals in volts as for signals in millivolts: its steps follow them."""

import pytest
import torch
from torch import nn

from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.judging import parity
from edgepass.quantize import recipe
from runtime_tests.conftest import CONVERTERS_WARN


@pytest.mark.export
@CONVERTERS_WARN
@pytest.mark.parametrize("scale", [1e-4, 1e-3, 1.0])
def test_the_loss_of_int8_does_not_depend_on_the_unit(scale: float) -> None:
    model = nn.Sequential(nn.Linear(16, 32, bias=False), nn.ReLU(), nn.Linear(32, 8, bias=False)).eval()
    x = torch.randn(64, 1, 16) * scale
    job = Job(capture(model, (x[0],)), recipe.read("static_wi8_ai8"), lambda: [(row,) for row in x])
    graph = job.quantised(fold=True)
    with torch.no_grad():
        wanted, given = (torch.stack([module(row) for row in x]).numpy() for module in (model, graph))
    assert parity.compare(wanted, given).sqnr_db > 35
