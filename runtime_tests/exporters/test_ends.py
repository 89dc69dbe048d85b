"""The ends of a .tflite in static int8: what the recipe leaves in float32 comes out as float32."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgepass import exporters
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.judging import parity
from edgepass.quantize import recipe
from edgepass.runtimes import _child
from edgepass.samples import collect
from runtime_tests.conftest import CONVERTERS_WARN

pytestmark = [pytest.mark.export, CONVERTERS_WARN]


class State(nn.Module):
    """A state that a layer reads and that is given back, as a recurrent step does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(7, 5)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = torch.tanh(0.5 * state + x)
        return self.layer(state), state


def test_a_state_that_an_int8_layer_reads_is_given_as_it_is(tmp_path: Path) -> None:
    args = (torch.randn(1, 7), torch.randn(1, 7))
    rows = collect([(torch.randn(1, 7), torch.randn(1, 7)) for _ in range(32)], args, "here")
    model = State().eval()
    job = Job(capture(model, args), recipe.read("static_wi8_ai8"), rows.arguments)
    exporters.export("tflite", job, path := tmp_path / "state.tflite")
    outputs = _child.run("tflite", path, rows.inputs, warmup=0, latency_runs=1).outputs
    with torch.no_grad():
        wanted = [torch.stack(column).numpy() for column in zip(*(model(*a) for a in rows.arguments()), strict=True)]
    found = [p.whole.centred_db for p in parity.of(wanted, outputs).outputs if p.whole]
    assert found[0] > 25
    assert found[1] > 100
