"""Layers and constants that a converter is known to stumble over go to every target."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import edgepass
from edgepass import exporters, pipeline, runtimes
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.judging import parity, verdict
from edgepass.judging.candidate import Standard
from edgepass.judging.gates import Gates
from edgepass.quantize import recipe
from edgepass.runtimes import _child
from edgepass.samples import Samples
from edgepass.task import Task
from runtime_tests.conftest import CONVERTERS_WARN
from runtime_tests.exporters.small import TARGETS, Recurrent, pictures, slow

pytestmark = [pytest.mark.export, CONVERTERS_WARN]
FORMATS = [target for target in TARGETS if ":" not in target]
DELEGATES = [target for target in TARGETS if ":" in target]
QUICK = [target if target in FORMATS else slow(target) for target in TARGETS]


@pytest.mark.parametrize("targets", [FORMATS, pytest.param(DELEGATES, marks=pytest.mark.slow)])
def test_convolutions_with_batch_norm_are_int8_in_every_file(targets: list[str], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip
    x = pictures(32, 1, 3, 17, 13)
    done = edgepass.build(
        model, (x[0],), out=tmp_path / "o", targets=targets, calibration=[(a,) for a in x], evaluate=[(a,) for a in x]
    )
    assert done.verdict == "pass", [r.reasons for r in done.artifacts]
    assert all(r.audit and r.audit.coverage == 1.0 for r in done.artifacts)


class Variance(nn.Module):
    """A layer, and how its outputs vary."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 64)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).var((1, 2))


@pytest.mark.parametrize("name", ["softmax", "sigmoid", "variance", "wide"])
def test_a_float16_pte_is_as_good_as_float16_is_there(name: str, tmp_path: Path) -> None:
    """XNNPACK sums in float16 where the processor can, and kernels outside of it everywhere."""
    torch.manual_seed(0)
    ends: dict[str, nn.Module] = {
        "softmax": nn.Sequential(nn.Linear(16, 32), nn.Softmax(-1)),
        "sigmoid": nn.Sequential(nn.Linear(16, 32), nn.Sigmoid()),
        "variance": Variance(),
        "wide": nn.Sequential(nn.Linear(16, 512), nn.ReLU(), nn.Linear(512, 8)),
    }
    x = [(torch.randn(1, 8, 16),) for _ in range(32)]
    done = edgepass.build(ends[name], x[0], out=tmp_path / "o", targets=("executorch",), recipe="fp16", evaluate=x)
    assert done.verdict == "pass", [r.reasons for r in done.artifacts]


@pytest.mark.parametrize("name", ["fp32", "static_wi8_ai8"])
@pytest.mark.parametrize(
    "layer",
    [
        nn.GRU(8, 6, batch_first=True),
        nn.LSTM(8, 6, num_layers=2, batch_first=True, bidirectional=True),
        nn.RNN(8, 6, nonlinearity="relu", batch_first=True),
        nn.RNN(8, 6, bias=False, batch_first=True),
        nn.RNN(8, 6),
    ],
    ids=["gru", "lstm", "rnn_relu", "rnn_tanh", "one_step"],
)
def test_recurrent_layers_go_to_core_ml(layer: nn.RNNBase, name: str, tmp_path: Path) -> None:
    samples = Samples(inputs=[torch.randn(8, 1, 7, 8).numpy()])
    model = Recurrent(layer).eval()
    task = Task(name="recurrent", source="test", model=model, args=samples.arguments()[0], evaluation=samples)
    job = Job(capture(model, task.args), recipe.read(name), samples.arguments)
    candidate = pipeline.convert("coreml", job, tmp_path / "recurrent.mlpackage")
    standard = Standard(samples=samples, reference=task.reference(samples), score=None)
    record, _ = verdict.judge(candidate, standard, Gates())
    assert record.verdict == "pass", record.reasons


class Typed(torch.nn.Module):
    """Says float32 in so many words, and has a state that begins at zeros, as torch writes that of a GRU."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gru, self.out = torch.nn.GRU(8, 8, batch_first=True), torch.nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.gru(x)[0].to(torch.float32) + torch.ones(8) * torch.full((8,), 0.5) + torch.arange(8)
        y: torch.Tensor = self.out(torch.tanh(h / 8).float())
        return y


@pytest.mark.parametrize("target", [t if t in ("executorch", "onnx") else slow(t) for t in TARGETS])
def test_types_that_a_model_names_become_float16_too(target: str, tmp_path: Path) -> None:
    samples = Samples(inputs=[pictures(4, 1, 5, 8).numpy()])
    model = Typed().eval()
    task = Task(name="typed", source="test", model=model, args=samples.arguments()[0], evaluation=samples)
    job = Job(capture(model, task.args), recipe.read("fp16"))
    candidate = pipeline.convert(target, job, tmp_path / f"typed{exporters.target(target).suffix}")
    standard = Standard(samples=samples, reference=task.reference(samples), score=None)
    record, _ = verdict.judge(candidate, standard, Gates())
    assert record.verdict == "pass", record.reasons


class Gelus(nn.Module):
    """Both forms of GELU, which are 80 dB apart."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return nn.functional.gelu(x), nn.functional.gelu(x + 0.5, approximate="tanh")


@pytest.mark.parametrize("target", QUICK)
def test_each_form_of_gelu_is_itself(target: str, tmp_path: Path) -> None:
    x = 3 * torch.randn(1, 7, 63)
    path = tmp_path / f"gelus{exporters.target(target).suffix}"
    exporters.export(target, Job(capture(Gelus(), (x,)), recipe.read("fp32")), path)
    run = _child.run(exporters.target(target).runtime, path, [x[None].numpy()])
    for wanted, made in zip(Gelus()(x), run.outputs, strict=True):
        assert parity.compare(wanted[None].numpy(), made).sqnr_db > 110
    if "coreml" in target:
        counts = _child.inspect(exporters.target(target).runtime, path).ops
        assert sum(count for name, count in counts.items() if name.endswith("gelu")) == 2  # one operation each


class Dense(nn.Module):
    """Features laid beside features, normalised for a layer and kept for a sum, twice over."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
        self.norms = nn.ModuleList(nn.LayerNorm(size) for size in (16, 24))
        self.mixes = nn.ModuleList(nn.Linear(size, size) for size in (16, 24))

    def forward(self, x: Tensor) -> Tensor:
        groups = [layer(x) for layer in list(self.layers)[:2]]
        for norm, mix in zip(self.norms, self.mixes, strict=True):
            u = torch.cat(groups, -1)
            groups = [self.layers[3](x), u + mix(norm(u))]
        return groups[1]


@pytest.mark.parametrize("target", QUICK)
def test_what_is_used_in_int8_and_in_float_lowers(target: str, tmp_path: Path) -> None:
    samples = [torch.randn(1, 9, 8) for _ in range(64)]
    model = Dense().eval()
    job = Job(capture(model, (samples[0],)), recipe.read("static_wi8_ai8"), lambda: [(x,) for x in samples])
    path = tmp_path / f"dense{exporters.target(target).suffix}"
    assert exporters.export(target, job, path).fallbacks == []
    runtime = runtimes.runtime(exporters.target(target).runtime)
    runtime.prepare(path)  # executorch registers its kernels here
    with torch.no_grad():
        wanted = model(samples[0]).numpy()
    assert parity.compare(wanted, runtime.load(path, 1)([samples[0].numpy()])[0]).sqnr_db > 28


class Transposed(nn.Module):
    """Tables of one shape that do not lie in the order of their dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ParameterList(torch.randn(7, 5).T for _ in range(4))
        for i in range(4):
            self.register_buffer(f"constant_{i}", torch.randn(7, 5).T, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        for i, table in enumerate(self.tables):
            x = torch.tanh(x * table + self.get_buffer(f"constant_{i}"))
        return x


@pytest.mark.parametrize("target", QUICK)
def test_constants_that_lie_transposed_stay_apart(target: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = (torch.randn(1, 5, 7),)
    done = edgepass.build(Transposed(), x, out=tmp_path / "o", targets=[target], recipe="fp32")
    assert done.verdict == "pass", [r.reasons for r in done.artifacts]
