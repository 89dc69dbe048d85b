"""Model x recipe x target: every written file is run from disk and judged. Also what is refused, and what is caught."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import edgepass
from edgepass import catalog, exporters, models, pipeline, runtimes
from edgepass.errors import CaptureError, RefusedError
from edgepass.exporters import Job
from edgepass.exporters._capture import Program, capture
from edgepass.judging import gates, parity, verdict
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import ArtifactRecord
from edgepass.judging.verdict import Candidate, Standard
from edgepass.quantize import audit, recipe
from edgepass.runtimes import _child
from edgepass.task import Samples, Task

pytestmark = [
    pytest.mark.export,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # converters, of each other
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # coremltools leaves its temporary folder to the collector
]
LOOKBACK, HORIZON, CHANNELS = 63, 5, 3
RECIPES = catalog.names("recipes")
TARGETS = catalog.names("targets")


def slow(target: str) -> Any:
    return pytest.param(target, marks=pytest.mark.slow)


def waves(count: int, seed: int) -> np.ndarray:
    """[count, 1, L, C] float32 windows of waves with a level, a scale and noise of their own."""
    generator = np.random.default_rng(seed)
    t = np.arange(LOOKBACK)[None, :, None]
    phase = generator.uniform(0, 6, (count, 1, CHANNELS))
    noise = generator.normal(0, 0.1, (count, LOOKBACK, CHANNELS))
    x = 500 + 40 * np.sin(t / 4 + phase) + 20 * noise
    return x[:, None].astype(np.float32)


@pytest.fixture(scope="module")
def task() -> Task:
    torch.manual_seed(0)
    forecaster = models.create("single-xs", lookback=LOOKBACK, horizon=HORIZON, channels=CHANNELS)
    forecaster.set_scaler([500.0] * CHANNELS, [30.0] * CHANNELS)
    return Task(
        name="tiny",
        source="test",
        model=forecaster,
        args=(torch.from_numpy(waves(1, 0)[0]),),
        calibration=Samples(inputs=[waves(32, 1)]),
        evaluation=Samples(inputs=[waves(16, 2)]),
    )


@pytest.fixture(scope="module")
def program(task: Task) -> Program:
    return capture(task.module, task.args)


@pytest.fixture(scope="module")
def standard(task: Task) -> Standard:
    assert task.evaluation
    return Standard(samples=task.evaluation, reference=task.reference(task.evaluation), score=None)


@pytest.fixture(scope="module")
def jobs(task: Task, program: Program) -> dict[str, Job]:
    assert task.calibration
    return {name: Job(program, recipe.read(name), task.calibration.arguments) for name in RECIPES}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", RECIPES)
def test_every_file_is_within_its_recipes_bounds(
    name: str, target: str, jobs: dict[str, Job], standard: Standard, tmp_path: Path
) -> None:
    job, module = jobs[name], catalog.load("targets", target)
    if job.recipe.scheme in module.refuses:
        _, nearest = module.refuses[job.recipe.scheme]
        assert nearest in RECIPES
        with pytest.raises(RefusedError, match=nearest):
            exporters.check(module, target, job.recipe, None)
        return
    path = tmp_path / f"tiny{module.suffix}"
    candidate = pipeline.convert(target, job, path)
    contents = _child.inspect(module.runtime, path)
    assert {x.dtype for x in (*contents.inputs, *contents.outputs)} == {"float32"}, "as the model's own"
    record, _ = verdict.judge(candidate, standard, Gates())
    assert record.verdict == "pass", record.reasons
    assert record.parity
    assert record.parity.sqnr_db >= (job.recipe.bounds.min_sqnr or 0)
    assert record.audit
    assert record.audit.coverage == 1.0
    assert {w.dtype for w in record.audit.weights if w.requested} == {job.recipe.weights}
    assert record.memory
    assert record.memory.peak_bytes
    assert record.delegated_flops is None or record.delegated_flops >= 0.85
    if target == "executorch" and name != "fp16":
        assert not record.fallbacks, "our own models lower whole"


def test_one_quantised_graph_serves_every_target(
    task: Task, jobs: dict[str, Job], standard: Standard, tmp_path: Path
) -> None:
    job = jobs["static_wi8_ai8"]
    ratios = {}
    for target in TARGETS:
        module = catalog.load("targets", target)
        path = tmp_path / f"tiny{module.suffix}"
        exporters.export(target, job, path)
        outputs = _child.run(module.runtime, path, standard.samples.inputs, latency_runs=1).outputs
        ratios[target] = parity.of(standard.reference, outputs).sqnr_db
    formats = [ratio for target, ratio in ratios.items() if ":" not in target]
    assert max(formats) - min(formats) < 0.6, ratios
    assert min(ratios.values()) > max(formats) - 0.6, ratios  # a delegate may keep more in float, never less


def test_convolutions_with_batch_norm_are_int8_in_every_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip
    x = torch.randn(32, 1, 3, 17, 13)
    done = edgepass.build(
        model, (x[0],), out=tmp_path / "o", targets=TARGETS, calibration=[(a,) for a in x], evaluate=[(a,) for a in x]
    )
    assert done.verdict == "pass", [r.reasons for r in done.artifacts]
    assert all(r.audit and r.audit.coverage == 1.0 for r in done.artifacts)


def test_float16_convolutions_of_a_pte_are_told_of_and_not_asked_for(tmp_path: Path) -> None:
    """XNNPACK writes them in float32; the other targets do as asked."""
    x = (torch.randn(1, 4, 32),)
    done = edgepass.build(convolutional(), x, out=tmp_path / "o", targets=("executorch", "tflite"), recipe="fp16")
    pte, tflite = done.artifacts
    assert done.verdict == "pass", [r.reasons for r in done.artifacts]
    assert any("some weights in float32" in note for note in pte.notes)
    assert not any("some weights in float32" in note for note in tflite.notes)
    assert pte.audit
    assert tflite.audit
    formats = {r.name: r.dtype for r in tflite.audit.weights if r.requested}
    assert set(formats.values()) == {"float16"}
    assert {r.name for r in pte.audit.weights if r.requested} == {n for n in formats if not n.startswith("0.")}


class Recurrent(nn.Module):
    """One of torch's own recurrent layers, and a head."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer, self.out = layer, nn.Linear(layer.hidden_size * (2 if layer.bidirectional else 1), 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.layer(x)[0])
        return y


@pytest.mark.parametrize("name", ["fp32", "static_wi8_ai8"])
@pytest.mark.parametrize(
    "layer",
    [
        nn.GRU(8, 6, batch_first=True),
        nn.LSTM(8, 6, num_layers=2, batch_first=True, bidirectional=True),
        nn.RNN(8, 6, nonlinearity="relu"),
        nn.RNN(8, 6, bias=False),
    ],
    ids=["gru", "lstm", "rnn_relu", "rnn_tanh"],
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
    samples = Samples(inputs=[torch.randn(4, 1, 5, 8).numpy()])
    model = Typed().eval()
    task = Task(name="typed", source="test", model=model, args=samples.arguments()[0], evaluation=samples)
    job = Job(capture(model, task.args), recipe.read("fp16"))
    candidate = pipeline.convert(target, job, tmp_path / f"typed{exporters.target(target).suffix}")
    standard = Standard(samples=samples, reference=task.reference(samples), score=None)
    record, _ = verdict.judge(candidate, standard, Gates())
    assert record.verdict == "pass", record.reasons


def test_gptq_beats_rounding_to_nearest_on_smooth_inputs() -> None:
    from edgepass.quantize.rounding import gptq

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 63, generator=generator, dtype=torch.float64).cumsum(1)
    weight = torch.randn(5, 63, generator=generator)
    rounded = gptq(weight, x.T @ x)
    step = weight.abs().amax(1, keepdim=True) / 127
    nearest = (weight / step).round() * step
    levels = rounded / step
    assert torch.allclose(levels, levels.round(), atol=1e-3), "the weights lie on the int8 grid"
    assert torch.equal(levels.abs().amax(1).round(), torch.full((5,), 127.0)), "and a second rounding keeps it"
    error = [float(((w - weight).double() @ x.T).square().mean()) for w in (rounded, nearest)]
    assert error[0] < 0.2 * error[1]


class Affine(nn.Module):
    """A linear layer between two uses of a custom operation."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.edgepass_test.twice(self.layer(torch.ops.edgepass_test.twice(x)))


@torch.library.custom_op("edgepass_test::twice", mutates_args=())
def twice(x: Tensor) -> Tensor:
    return x * 2.0


@twice.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


_LIBRARY = torch.library.Library("edgepass_test", "FRAGMENT")
_LIBRARY.define("opaque(Tensor x) -> Tensor")
_LIBRARY.impl("opaque", lambda x: x + 1, "CPU")
torch.library.register_fake("edgepass_test::opaque", torch.empty_like)


class Opaque(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.edgepass_test.opaque(x)


def test_a_custom_operation_never_blocks_a_target(tmp_path: Path) -> None:
    torch.manual_seed(0)
    done = edgepass.build(Affine(), (torch.randn(1, 8),), out=tmp_path / "o", targets=TARGETS, recipe="fp32")
    assert done.verdict == "pass", [r.reasons for r in done.artifacts]


def test_a_custom_operation_without_a_formula_is_named() -> None:
    x = (torch.ones(3),)
    with pytest.raises(CaptureError, match=r"edgepass_test.opaque.*get_decompositions"):
        capture(Opaque(), x)
    captured = capture(Opaque(), x, decompositions={torch.ops.edgepass_test.opaque.default: lambda x: x + 1})
    assert torch.equal(captured.exported.module()(*x), x[0] + 1)


@pytest.mark.parametrize("target", [t for t in TARGETS if catalog.load("targets", t).dynamic_batch is None])
def test_a_batch_may_vary_where_the_target_allows(target: str, task: Task, tmp_path: Path) -> None:
    module = catalog.load("targets", target)
    dynamic = capture(task.module, task.args, max_batch=7)
    path = tmp_path / f"tiny{module.suffix}"
    exporters.export(target, Job(dynamic, recipe.read("fp32")), path)
    x = waves(6, 3)[:, 0]
    with torch.inference_mode():
        expected = task.module(torch.from_numpy(x)).numpy()
    for count in (1, 5, 6):
        (got,) = _child.run(module.runtime, path, [x[None, :count]], latency_runs=1).outputs
        np.testing.assert_allclose(got[0], expected[:count], rtol=1e-4)


def test_an_onnx_file_tells_nothing_of_where_it_was_made(jobs: dict[str, Job], tmp_path: Path) -> None:
    exporters.export("onnx", jobs["fp32"], tmp_path / "tiny.onnx")
    assert b".py" not in (tmp_path / "tiny.onnx").read_bytes()


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


def convolutional() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(4, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 6)).eval()


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
    assert record.reasons == ["audited coverage is 0.0%, less than 100.0%"]


def test_a_file_of_another_model_is_a_failed_record_not_a_crash(standard: Standard, tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    other = capture(nn.Linear(CHANNELS, 2), (torch.zeros(1, LOOKBACK, CHANNELS),))
    exporters.export("onnx", Job(other, recipe.read("fp32")), path)
    record, outputs = verdict.judge(Candidate(path=path, target="onnx", runtime="onnx", recipe=None), standard, Gates())
    assert record.verdict == "fail"
    assert "they are not the same model" in record.reasons[0]
    assert outputs == []


def test_recipes_keep_what_they_are_told_to(program: Program) -> None:
    int8 = recipe.read("static_wi8_ai8")
    everything = {w.name for w in audit.requested(program.exported, int8)}
    left = {w.name for w in audit.requested(program.exported, replace(int8, keep=("passformer.topology.passes.*",)))}
    kept = {name for name in everything if name.startswith("passformer.topology.passes.")}
    assert kept
    assert left
    assert left == everything - kept


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


@pytest.mark.parametrize("target", TARGETS)
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


@pytest.fixture(scope="module")
def built(task: Task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "o"
    plan = pipeline.Plan.of(("coreml", "tflite"), ("static_wi8_ai8",))
    pipeline.export(task, plan, out, Gates())
    return out


def test_two_exports_have_equal_content(task: Task, built: Path, tmp_path: Path) -> None:
    from edgepass.judging import manifest

    plan = pipeline.Plan.of(("coreml", "tflite"), ("static_wi8_ai8",))
    again = pipeline.export(task, plan, tmp_path / "o", Gates())
    before = manifest.read(built)
    assert [a.content_sha256 for a in again.artifacts] == [a.content_sha256 for a in before.artifacts]
    assert again.data == before.data
    assert [a.parity for a in again.artifacts] == [a.parity for a in before.artifacts]


def test_validate_judges_again_and_sees_a_file_that_was_changed(task: Task, built: Path, tmp_path: Path) -> None:
    from edgepass.validation import validate

    copy = tmp_path / "o"
    shutil.copytree(built, copy)
    load: Callable[[str], Task] = lambda model: task  # noqa: E731
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

    tight = validate(built, load=lambda model: task, reference=None, recipe=None, bounds=Gates(max_size=1000))
    assert tight.verdict == "fail"
    unknown = validate(built, load=lambda model: task, reference=None, recipe=None, bounds=Gates(max_metric_drop=0.5))
    assert unknown.verdict == "not-evaluated"


def test_third_party_models_go_through_as_files(tmp_path: Path) -> None:
    """A Hugging Face BERT of two layers with random weights, token ids in, through file.py:get_model."""
    pytest.importorskip("transformers", reason="pip install transformers (litert-torch brings it)")
    from edgepass import source

    file = tmp_path / "bert.py"
    file.write_text(BERT)
    loaded = source.load(f"{file}:get_model")
    plan = pipeline.Plan.of(("executorch", "coreml", "tflite"), ("static_wi8_ai8",))
    done = pipeline.export(loaded, plan, tmp_path / "o", Gates())
    assert done.verdict == "pass", [a.reasons for a in done.artifacts]
    assert all(a.audit and a.audit.coverage == 1.0 for a in done.artifacts)


BERT = """
import torch
from transformers import BertConfig, BertModel

class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        config = BertConfig(vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                            intermediate_size=64, max_position_embeddings=24)
        self.bert = BertModel(config, add_pooling_layer=False)

    def forward(self, ids):
        return self.bert(input_ids=ids).last_hidden_state

def get_model():
    torch.manual_seed(0)
    return Encoder()

def get_args():
    return (torch.zeros(1, 17, dtype=torch.int64),)

def sentences(seed):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randint(0, 99, (1, 17), generator=generator),) for _ in range(16)]

def get_calibration_data():
    return sentences(1)

def get_eval_data():
    return sentences(2)
"""


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


@pytest.mark.parametrize("target", TARGETS)
def test_constants_that_lie_transposed_stay_apart(target: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = (torch.randn(1, 5, 7),)
    done = edgepass.build(Transposed(), x, out=tmp_path / "o", targets=[target], recipe="fp32")
    assert done.verdict == "pass", [r.reasons for r in done.artifacts]
