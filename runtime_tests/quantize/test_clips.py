"""A layer and its ReLU6 are one operation in int8, whose steps are of what is left, on every target."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgepass import exporters
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.judging import parity
from edgepass.quantize import recipe
from edgepass.quantize.pt2e import CLIPS, WEIGHTED
from edgepass.runtimes import _child
from edgepass.samples import Samples, collect
from runtime_tests.conftest import CONVERTERS_WARN

pytestmark = [pytest.mark.export, CONVERTERS_WARN]


class Inverted(nn.Module):
    """x [1, 5, 9, 7] through blocks of MobileNetV2, whose layers give far more than ReLU6 lets through."""

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(nn.Conv2d(5, 8, 3), clip, nn.Conv2d(8, 8, 3, groups=8), clip, nn.Conv2d(8, 6, 1))
        self.second = nn.Sequential(nn.Conv2d(6, 12, 1), clip, nn.Conv2d(12, 6, 1))
        for layer in (self.first[0], self.first[2], self.second[0]):
            nn.init.normal_(layer.weight, std=3.0)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.first(x)
        return y + self.second(y)


def made(clip: nn.Module) -> tuple[nn.Module, Job, Samples]:
    model = Inverted(clip).eval()
    samples = collect([(row,) for row in torch.randn(32, 1, 5, 9, 7)], (torch.randn(1, 5, 9, 7),), "")
    job = Job(capture(model, (torch.randn(1, 5, 9, 7),)), recipe.read("static_wi8_ai8"), samples.arguments)
    return model, job, samples


@pytest.mark.parametrize(("clip", "fused"), [(nn.ReLU6(), True), (nn.Hardtanh(-2.0, 3.0), False)])
def test_nothing_is_rounded_between_a_layer_and_its_relu6(clip: nn.Module, fused: bool) -> None:
    _, job, _ = made(clip)
    clips = [node for node in job.quantised(fold=True).graph.nodes if node.target in CLIPS]
    assert [node.all_input_nodes[0].target in WEIGHTED for node in clips] == [fused] * 3
    assert all("quantize_per_tensor" in str(user.target) for node in clips for user in node.users)


@pytest.mark.parametrize("target", ["executorch", "coreml", "tflite", "onnx"])
def test_steps_are_of_what_relu6_leaves(target: str, tmp_path: Path) -> None:
    model, job, samples = made(nn.ReLU6())
    module = exporters.target(target)
    exporters.export(target, job, path := tmp_path / f"a{module.suffix}")
    found = _child.run(module.runtime, path, samples.inputs, warmup=0, latency_runs=1)
    with torch.no_grad():
        wanted = torch.stack([model(*args) for args in samples.arguments()]).numpy()
    assert parity.compare(wanted, found.outputs[0]).sqnr_db > 27


def test_onnxruntime_has_an_integer_kernel_for_every_layer(tmp_path: Path) -> None:
    """At a residual too, which an addition in float reads; and no clip is left."""
    import onnx
    import onnxruntime

    _, job, _ = made(nn.ReLU6())
    exporters.export("onnx", job, path := tmp_path / "a.onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns that what it writes is for this machine alone
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    kernels = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert kernels["QLinearConv"] == 5
    assert not {"Conv", "Clip"} & kernels.keys()
