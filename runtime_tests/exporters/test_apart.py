"""What is joined, padded or bounded in float is no int8 of one scale in a static .tflite."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepass import exporters
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.judging import parity
from edgepass.quantize import recipe
from edgepass.runtimes import _child
from runtime_tests.conftest import CONVERTERS_WARN

pytestmark = [pytest.mark.export, CONVERTERS_WARN]
JOINTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "stack": lambda h, x: torch.stack([-h, h], -1),
    "moved and stacked": lambda h, x: torch.stack([h.reshape(1, 7, 5), 90 * x.reshape(1, 7, 5)], -1),
    "parted and stacked": lambda h, x: torch.stack([h.unbind(1)[1], 90 * x[:, 1]], -1),
    "hstack": lambda h, x: torch.hstack([-h, h]),
    "vstack": lambda h, x: torch.vstack([-h, h]),
    "dstack": lambda h, x: torch.dstack([-h, h]),
    "column_stack": lambda h, x: torch.column_stack([-h, h]),
    "block_diag": lambda h, x: torch.block_diag(h[0], 90 * x[0]),
    "slice_scatter": lambda h, x: torch.slice_scatter(90 * x, h[:, :2], 1, 1, 3),
    "select_scatter": lambda h, x: torch.select_scatter(90 * x, h[:, 0], 1, 2),
    "pad": lambda h, x: functional.pad(h, (1, 2), value=-9.0),
    "clamp": lambda h, x: h.clamp(min=9 * x),
}


class Joined(nn.Module):
    """Numbers of a layer, none below zero, beside others."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(7, 7) for _ in JOINTS)

    def forward(self, x: Tensor) -> list[Tensor]:
        made = zip(self.layers, JOINTS.values(), strict=True)
        return [joint(torch.relu(layer(x)), x) * 1.5 for layer, joint in made]


def test_what_is_joined_in_float_is_as_in_the_graph(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Joined().eval(), torch.randn(8, 1, 5, 7)
    job = Job(capture(model, (x[0],)), recipe.read("static_wi8_ai8"), lambda: [(row,) for row in x])
    exporters.export("tflite", job, path := tmp_path / "joined.tflite")
    outputs = _child.run("tflite", path, [x.numpy()]).outputs
    graph = job.realised()
    for name, made, *rows in zip(JOINTS, outputs, *[graph(row) for row in x], strict=True):
        assert parity.compare(torch.stack(rows).detach().numpy(), made).sqnr_db > 40, name
