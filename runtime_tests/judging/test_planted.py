"""Files that are wrong and once passed: each is written, spoilt as a converter or a recipe spoils it, and judged."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgepass import exporters, pipeline
from edgepass.exporters import Job, _flatbuffer
from edgepass.exporters._capture import Program, capture
from edgepass.judging import verdict
from edgepass.judging.candidate import Standard
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import ArtifactRecord
from edgepass.quantize import recipe
from edgepass.samples import collect
from edgepass.task import Task
from runtime_tests.conftest import CONVERTERS_WARN

pytestmark = [pytest.mark.export, CONVERTERS_WARN]
INPUTS, SAMPLES = 16, 64


@dataclass(frozen=True)
class Trial:
    """A model, data for it, and what is judged in its place."""

    model: nn.Module

    @cached_property
    def task(self) -> Task:
        """With 64 samples to calibrate it, and 64 others to judge it."""
        rows = [torch.randn(1, INPUTS, generator=torch.Generator().manual_seed(n)) for n in range(2 * SAMPLES)]
        args = (rows[0],)
        return Task(
            name="trial",
            source="trial",
            model=self.model,
            args=args,
            calibration=collect([(x,) for x in rows[:SAMPLES]], args, "trial"),
            evaluation=collect([(x,) for x in rows[SAMPLES:]], args, "trial"),
        )

    @cached_property
    def program(self) -> Program:
        """As captured."""
        return capture(self.model.eval(), self.task.args)

    def record(
        self,
        target: str,
        name: str,
        folder: Path,
        *,
        made_of: "Trial | None" = None,
        spoil: Callable[[Path], None] = lambda path: None,
        bounds: Gates | None = None,
    ) -> ArtifactRecord:
        """The record of a file that was made of another model than it should have been, or spoilt afterwards."""
        assert self.task.calibration
        assert self.task.evaluation
        jobs = {
            of: Job(trial.program, recipe.read(of), self.task.calibration.arguments)
            for trial in (made_of or self,)
            for of in ("fp32", name)
        }
        standard = Standard(
            samples=self.task.evaluation, reference=self.task.reference(self.task.evaluation), score=None
        )
        module = exporters.target(target)
        path, plain = folder / f"file{module.suffix}", folder / f"float{module.suffix}"
        exporters.export(target, jobs["fp32"], plain)
        yardstick = verdict.measure_float(plain, module.runtime, standard)
        own = Job(self.program, recipe.read(name), self.task.calibration.arguments)
        candidate = pipeline.convert(target, jobs[name], path, pipeline.Expected(own.realised))
        spoil(path)
        return verdict.judge(candidate, standard, bounds or Gates(), yardstick)[0]


class Net(nn.Module):
    """Two layers and a last one, in which `offset` and `scales` are those of what it predicts."""

    def __init__(self, scales: tuple[float, ...], offset: float = 0.0) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(INPUTS, 32), nn.Linear(32, len(scales))
        with torch.no_grad():
            self.last.weight *= torch.tensor(scales)[:, None]
            self.last.bias.fill_(offset)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x)))


class Less(nn.Module):
    """sub(4 l(x), x, alpha), whose alpha a converter may drop."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.l, self.alpha = nn.Linear(INPUTS, INPUTS), alpha

    def forward(self, x: Tensor) -> Tensor:
        return torch.sub(4 * self.l(x), x, alpha=self.alpha)


def test_an_offset_hides_no_error(tmp_path: Path) -> None:
    """300 with a spread of 0.2, whose int8 steps are 300 / 127: the raw figure calls it 50 dB and more."""
    record = Trial(Net((0.2,), offset=300.0)).record("tflite", "static_wi8_ai8", tmp_path, bounds=Gates(min_sqnr=40))
    assert record.parity
    assert record.parity.sqnr_db > 40
    assert record.verdict == "fail"
    assert any("the error of output_0 is as large as its signal" in reason for reason in record.reasons)


def test_a_dead_score_beside_large_boxes_is_named(tmp_path: Path) -> None:
    """A layer gives four values of 0 … 640 and one of 0 … 1: one scale for all of them has no step for the last."""
    detector = Trial(Net((640.0, 640.0, 640.0, 640.0, 1.0)))
    record = detector.record("onnx", "static_wi8_ai8", tmp_path)
    assert record.parity
    assert record.parity.centred_db
    assert record.parity.centred_db > 25
    assert record.verdict == "fail"
    assert any("the error of output_0[..., 4] is as large as its signal" in reason for reason in record.reasons)
    assert all(reason.startswith("loss: ") for reason in record.reasons), "the graph has the same loss"


def scale_up(path: Path) -> None:
    """Multiply the scales of the largest int8 weight of a .tflite by 1.1."""
    model = _flatbuffer.parsed(path.read_bytes())
    tensors = [t for t in model.subgraphs[0].tensors if _flatbuffer._is_quantised(t) and len(t.quantization.scale) > 1]
    largest = max(tensors, key=lambda t: int(t.shape[0]) * int(t.shape[-1]))
    largest.quantization.scale = [1.1 * float(s) for s in largest.quantization.scale]
    path.write_bytes(_flatbuffer.packed(model))


def test_a_weight_that_is_a_tenth_too_large_is_no_loss_of_the_recipe(tmp_path: Path) -> None:
    healthy = Trial(Net((1.0,) * 8))
    assert healthy.record("tflite", "static_wi8_ai8", tmp_path).verdict == "pass"
    record = healthy.record("tflite", "static_wi8_ai8", tmp_path, spoil=scale_up)
    assert record.loss
    assert record.loss.file_db
    assert record.loss.file_db > 15
    assert record.verdict == "fail"
    assert record.reasons[0].startswith("conversion: the noise of output_0")


def test_a_dropped_alpha_is_the_converters(tmp_path: Path) -> None:
    """The int8 file keeps its recipe's 15 dB; what it was made of lost `alpha`."""
    record = Trial(Less(0.7)).record("onnx", "static_wi8_ai8", tmp_path, made_of=Trial(Less(1.0)))
    assert record.verdict == "fail"
    told = [reason.partition(": ")[0] for reason in record.reasons]
    assert told.count("conversion") >= 2
    assert any("this target's float32 file" in reason for reason in record.reasons)


def test_another_seeds_weights_are_the_converters(tmp_path: Path) -> None:
    torch.manual_seed(1)
    other = Trial(Net((1.0,) * 3))
    torch.manual_seed(0)
    record = Trial(Net((1.0,) * 3)).record("onnx", "weight_only_wi8_afp32", tmp_path, made_of=other)
    assert record.verdict == "fail"
    assert any(reason.startswith("conversion: ") for reason in record.reasons)
