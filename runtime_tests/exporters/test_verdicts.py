"""Files that are wrong, changed or not as asked are failed, and sound ones pass a second time."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgepass import exporters, pipeline
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.judging import gates, verdict
from edgepass.judging.candidate import Candidate, Standard
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import ArtifactRecord, Metric
from edgepass.plan import Plan
from edgepass.quantize import audit, recipe
from edgepass.samples import Samples
from edgepass.task import Task
from runtime_tests.conftest import CONVERTERS_WARN
from runtime_tests.exporters.small import CHANNELS, LOOKBACK, convolutional

pytestmark = [pytest.mark.export, CONVERTERS_WARN]


def planted(path: Path) -> None:
    """A .pte that executorch 1.5.1 makes wrong without a word: weight-only int8 from torchao, lowered to XNNPACK."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from torchao.quantization import IntxWeightOnlyConfig, quantize_
    from torchao.quantization.granularity import PerAxis

    model = convolutional()
    quantize_(model, IntxWeightOnlyConfig(weight_dtype=torch.int8, granularity=PerAxis(0)))
    captured = torch.export.export(model, (torch.zeros(1, 4, 32),), strict=False)
    path.write_bytes(to_edge_transform_and_lower(captured, partitioner=[XnnpackPartitioner()]).to_executorch().buffer)


def test_a_silently_wrong_file_is_caught_by_the_default_gates(tmp_path: Path) -> None:
    path = tmp_path / "planted.pte"
    planted(path)
    x = np.random.default_rng(0).normal(size=(8, 1, 4, 32)).astype(np.float32)
    given = Task(name="c", source="c", model=convolutional(), args=(torch.zeros(1, 4, 32),))
    samples = Samples(inputs=[x])
    standard = Standard(samples=samples, reference=given.reference(samples), score=None)
    candidate = Candidate(path=path, target="executorch", runtime="executorch", recipe=None)
    record, _ = verdict.judge(candidate, standard, Gates())
    assert record.verdict == "fail"
    assert any("SQNR" in reason for reason in record.reasons), record.reasons


def test_a_float_file_that_claims_int8_is_caught_by_the_audit(
    jobs: dict[str, Job], standard: Standard, tmp_path: Path
) -> None:
    path = tmp_path / "tiny.tflite"
    exporters.export("tflite", jobs["fp32"], path)
    claimed = jobs["static_wi8_ai8"]
    wanted = audit.requested(claimed.program.exported, claimed.recipe)
    candidate = Candidate(path=path, target="tflite", runtime="tflite", recipe=claimed.recipe, requested=wanted)
    record, _ = verdict.judge(candidate, standard, Gates())
    assert record.verdict == "fail"
    (reason,) = record.reasons
    assert reason.startswith(
        "audited coverage is 0.0%, less than 100.0%: passformer.embedding.project.weight is float32, "
    )


def test_a_file_of_another_model_is_a_failed_record_not_a_crash(standard: Standard, tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    other = capture(nn.Linear(CHANNELS, 2), (torch.zeros(1, LOOKBACK, CHANNELS),))
    exporters.export("onnx", Job(other, recipe.read("fp32")), path)
    record, outputs = verdict.judge(Candidate(path=path, target="onnx", runtime="onnx", recipe=None), standard, Gates())
    assert record.verdict == "fail"
    assert "a file with another interface is another model" in record.reasons[0]
    assert outputs == []


@pytest.fixture(scope="module")
def built(task: Task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "o"
    plan = Plan.of(("coreml", "tflite"), ("static_wi8_ai8",))
    pipeline.export(task, plan, out, Gates())
    return out


def test_two_exports_have_equal_content(task: Task, built: Path, tmp_path: Path) -> None:
    from edgepass.judging import manifest

    plan = Plan.of(("coreml", "tflite"), ("static_wi8_ai8",))
    again = pipeline.export(task, plan, tmp_path / "o", Gates())
    before = manifest.read(built)
    assert [a.content_sha256 for a in again.artifacts] == [a.content_sha256 for a in before.artifacts]
    assert again.data == before.data
    assert [a.parity for a in again.artifacts] == [a.parity for a in before.artifacts]


def test_validate_judges_again_and_sees_a_file_that_was_changed(task: Task, built: Path, tmp_path: Path) -> None:
    from edgepass.validation import validate

    copy = tmp_path / "o"
    shutil.copytree(built, copy)
    load: Callable[[str, Metric | None], Task] = lambda model, before: task  # noqa: E731
    sound = validate(copy, load=load, reference=None, recipe=None, bounds=Gates())
    assert sound.verdict == "pass", [a.reasons for a in sound.artifacts]
    (tflite,) = copy.glob("*.tflite")
    blob = bytearray(tflite.read_bytes())
    place = blob.rindex(bytes(64)) if bytes(64) in blob else len(blob) // 2
    blob[place] ^= 1
    tflite.write_bytes(bytes(blob))
    spoilt: list[ArtifactRecord] = validate(copy, load=load, reference=None, recipe=None, bounds=Gates()).artifacts
    assert gates.worst([a.verdict for a in spoilt]) == "fail"
    assert any("its content hash differs" in reason for a in spoilt for reason in a.reasons)


def test_the_user_s_gates_decide_the_exit(task: Task, built: Path) -> None:
    from edgepass.validation import validate

    tight = validate(built, load=lambda model, before: task, reference=None, recipe=None, bounds=Gates(max_size=1000))
    assert tight.verdict == "fail"
    unknown = validate(
        built, load=lambda model, before: task, reference=None, recipe=None, bounds=Gates(max_metric_drop=0.5)
    )
    assert unknown.verdict == "not-evaluated"
