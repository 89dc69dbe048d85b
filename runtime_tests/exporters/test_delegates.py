"""ExecuTorch's other delegates: lowered here, carried out by a reference executor, and never told as a device's."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from edgepass import exporters, pipeline
from edgepass.cli import cli
from edgepass.errors import BAD_INPUT, DeviceOnlyError, RefusedError
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.exporters.executorch._images import as_images
from edgepass.judging import manifest, verdict
from edgepass.judging.candidate import Candidate, Standard
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import ArtifactRecord
from edgepass.models import create
from edgepass.quantize import recipe
from edgepass.runtimes import _child
from edgepass.runtimes.executorch import _coreml
from edgepass.runtimes.executorch._file import File
from edgepass.runtimes.executorch._vulkan.formulas import FORMULAS
from edgepass.samples import Samples
from edgepass.task import Task
from runtime_tests.conftest import CONVERTERS_WARN
from runtime_tests.exporters.small import pictures, sampled

converts = [
    pytest.mark.export,
    CONVERTERS_WARN,
]
DELEGATES = ("executorch:coreml", "executorch:vulkan")
QUICK = {
    ("normed", "executorch:coreml", "fp32"),
    ("normed", "executorch:vulkan", "weight_only_wi8_afp32"),
    ("transformer", "executorch:coreml", "fp16"),
    ("transformer", "executorch:vulkan", "static_wi8_ai8"),
    ("image", "executorch:coreml", "static_wi8_ai8"),
    ("image", "executorch:vulkan", "fp16"),
}
"""In `make test`: each model with each delegate, each recipe once at least; the others are in `make test-all`."""
FORMATS = ("fp32", "fp16", "static_wi8_ai8", "weight_only_wi8_afp32")
CASES = sampled(product(("normed", "transformer", "image"), DELEGATES, FORMATS), QUICK)
LINEAR, DEPTHWISE, IMAGE = (FORMULAS[f"et_vk.q8ta_{name}.default"] for name in ("linear", "conv2d_dw", "conv2d"))


class Normed(nn.Module):
    """Norms of both kinds, a gate, and an odd number of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.widen, self.root, self.narrow = (
            nn.LayerNorm(7),
            nn.Linear(7, 13),
            nn.RMSNorm(13),
            nn.Linear(13, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        h = nn.functional.gelu(self.widen(self.norm(x)))
        narrowed: Tensor = self.narrow(self.root(h) * torch.sigmoid(h))
        return narrowed


class Sequence(nn.Module):
    """Convolutions along a sequence: dilated, in groups, with and without an activation behind them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv1d(3, 8, 3, padding=2, dilation=2), nn.Conv1d(8, 8, 4, stride=2, groups=2)
        self.third = nn.Conv1d(8, 5, 1, bias=False)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.third(self.second(torch.relu(self.first(x)))))


def sequences() -> list[tuple[Tensor, ...]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(1, 3, 19, generator=generator),) for _ in range(8)]


def models() -> dict[str, tuple[nn.Module, Tensor]]:
    torch.manual_seed(0)
    image = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, (3, 2), padding=1, groups=2),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.Hardswish(),
        nn.Conv2d(8, 13, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(13, 5),
    )
    return {
        "passformer": (create("single-xs", lookback=63, horizon=5, channels=3), torch.randn(1, 63, 3)),
        "normed": (Normed(), torch.randn(1, 11, 7)),
        "transformer": (nn.TransformerEncoderLayer(16, 2, 24, dropout=0.0, batch_first=True), torch.randn(1, 9, 16)),
        "image": (image, torch.randn(1, 3, 17, 17)),
    }


def task_of(name: str) -> Task:
    model, x = models()[name]
    made = pictures if name == "image" else torch.randn
    return task_with(name, model.eval(), Samples(inputs=[made(8, *x.shape).numpy()]))


def task_with(name: str, model: nn.Module, samples: Samples) -> Task:
    args = samples.arguments()[0]
    return Task(name=name, source="test", model=model, args=args, calibration=samples, evaluation=samples)


def judged(task: Task, target: str, chosen: str, folder: Path) -> tuple[ArtifactRecord, Path]:
    assert task.evaluation
    job = Job(capture(task.module, task.args), recipe.read(chosen), task.evaluation.arguments)
    path = folder / f"{task.name}{exporters.target(target).suffix}"
    standard = Standard(samples=task.evaluation, reference=task.reference(task.evaluation), score=None)
    return verdict.judge(pipeline.convert(target, job, path), standard, Gates())[0], path


class TestFiles:
    pytestmark = converts

    @pytest.mark.parametrize(("name", "target", "chosen"), CASES)
    def test_a_model_goes_to_the_delegate_whole_and_means_the_same(
        self, name: str, target: str, chosen: str, tmp_path: Path
    ) -> None:
        record, _ = judged(task_of(name), target, chosen, tmp_path)
        assert record.verdict == "pass", record.reasons
        assert record.latency
        assert record.latency.evidence == "reference executor"
        assert record.fallbacks == []
        assert record.delegated_flops == 1.0
        assert record.audit
        assert record.audit.coverage == 1.0

    def test_convolutions_along_a_sequence_are_int8_on_vulkan_too(self, tmp_path: Path) -> None:
        """Its own pattern is of images: "not enough values to unpack (expected 4, got 3)"."""
        job = Job(capture(Sequence(), (torch.zeros(1, 3, 19),)), recipe.read("static_wi8_ai8"), sequences)
        x = torch.randn(1, 3, 19)
        images = as_images(job.quantised(fold=True), sequences=True)
        torch.testing.assert_close(images(x), job.quantised(fold=True)(x), rtol=0, atol=0)
        task = task_with("tcn", Sequence(), Samples(inputs=[np.stack([x.numpy() for (x,) in sequences()])]))
        record, path = judged(task, "executorch:vulkan", "static_wi8_ai8", tmp_path)
        assert record.verdict == "pass", record.reasons
        assert record.audit
        assert record.audit.coverage == 1.0
        assert "vulkan.et_vk.q8ta_conv2d.default" in _child.inspect("executorch", path).ops

    @pytest.mark.parametrize(
        ("kernel", "chosen"),
        [
            ((3, 1), "fp32"),
            ((1, 3), "static_wi8_ai8"),
            pytest.param((3, 1), "static_wi8_ai8", marks=pytest.mark.slow),
            pytest.param((1, 3), "fp32", marks=pytest.mark.slow),
        ],
    )
    def test_several_sequences_are_one_image_on_vulkan(
        self, kernel: tuple[int, int], chosen: str, tmp_path: Path
    ) -> None:
        """Its convolutions take one image at a time, and a model that folds columns into the batch has several."""
        torch.manual_seed(0)
        padding = tuple(k // 2 for k in kernel)
        model = nn.Sequential(nn.Conv2d(4, 8, kernel, padding=padding), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Tanh()).eval()
        shape = (8, 3, 4, *(9 if k == 3 else 1 for k in kernel))
        task = task_with("folded", model, Samples(inputs=[torch.randn(shape).numpy()]))
        record, _ = judged(task, "executorch:vulkan", chosen, tmp_path)
        assert record.verdict == "pass", record.reasons

    def test_several_images_stay_outside_vulkan_or_are_refused(self, tmp_path: Path) -> None:
        model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU()).eval()
        task = task_with("several", model, Samples(inputs=[torch.randn(8, 2, 4, 9, 9).numpy()]))
        record, _ = judged(task, "executorch:vulkan", "fp32", tmp_path)
        assert [(f.op, f.reason) for f in record.fallbacks] == [
            ("aten.convolution.default", "Vulkan's partitioner: op args not supported")
        ]
        assert record.reasons[0].endswith("outside its delegates: aten.convolution.default")
        with pytest.raises(RefusedError, match="one image at a time until pytorch/executorch#22254"):
            judged(task, "executorch:vulkan", "static_wi8_ai8", tmp_path)

    def test_what_vulkan_cannot_convert_is_refused_with_its_first_cause(self, tmp_path: Path) -> None:
        model = nn.Sequential(nn.Conv2d(6, 6, 3, groups=6), nn.ReLU()).eval()
        task = task_with("six", model, Samples(inputs=[torch.randn(4, 1, 6, 9, 9).numpy()]))
        with pytest.raises(RefusedError, match="depthwise conv requires that OC is divisible by 4"):
            judged(task, "executorch:vulkan", "static_wi8_ai8", tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_two_conversions_to_core_ml_are_told_as_equal(self, tmp_path: Path) -> None:
        task = task_of("normed")
        (tmp_path / "again").mkdir()
        one, path = judged(task, "executorch:coreml", "fp32", tmp_path)
        two, _ = judged(task, "executorch:coreml", "fp32", tmp_path / "again")
        assert one.content_sha256 == two.content_sha256
        assert b"debug" not in File(path).payload(File(path).plan["delegates"][0])[-2000:]

    def test_a_delegate_that_nothing_here_has_leaves_the_verdict_open(self, tmp_path: Path) -> None:
        """A file as another tool makes it: handed to a backend whose payload nothing here can read."""
        task = task_of("normed")
        _, path = judged(task, "executorch:vulkan", "fp32", tmp_path)
        strange = tmp_path / "strange.pte"
        strange.write_bytes(path.read_bytes().replace(b"VulkanBackend", b"StrangeChipXY"))
        with pytest.raises(
            DeviceOnlyError, match="StrangeChipXY, which this host lacks; run it on a device that has it"
        ):
            _child.run("executorch", strange, [np.zeros((1, 1, 11, 7), np.float32)])
        assert task.evaluation
        standard = Standard(samples=task.evaluation, reference=task.reference(task.evaluation), score=None)
        candidate = Candidate(path=strange, target="executorch", runtime="executorch", recipe=recipe.read("fp32"))
        record, outputs = verdict.judge(candidate, standard, Gates(max_size=1))
        assert (record.verdict, outputs) == ("fail", [])
        assert record.reasons[0].startswith("not run here: strange.pte runs on StrangeChipXY")
        record, _ = verdict.judge(candidate, standard, Gates())
        assert record.verdict == "not-evaluated"
        assert record.latency is None
        assert record.memory
        assert record.memory.evidence == "predicted"
        asked = CliRunner().invoke(cli, ["benchmark", str(strange)])
        assert isinstance(asked.exception, DeviceOnlyError)
        assert asked.exception.exit_code == BAD_INPUT

    @pytest.mark.slow  # the other delegates are in test_export.py, by way of every target
    def test_one_command_writes_all_three_delegates(self, tmp_path: Path) -> None:
        targets = [word for name in ("executorch", *DELEGATES) for word in ("--target", name)]
        done = CliRunner().invoke(cli, ["export", "single-xs", *targets, "-o", str(tmp_path / "out")])
        assert done.exit_code == 0, done.output
        assert sorted(p.name for p in (tmp_path / "out").glob("*.pte")) == [
            "single-xs.static_wi8_ai8.coreml.pte",
            "single-xs.static_wi8_ai8.pte",
            "single-xs.static_wi8_ai8.vulkan.pte",
        ]
        made = manifest.read(tmp_path / "out").artifacts
        levels = [a.latency.evidence for a in made if a.latency]
        assert levels == ["host runtime", "reference executor", "reference executor"]
        again = CliRunner().invoke(cli, ["validate", str(tmp_path / "out"), "--json"])
        assert again.exit_code == 0, again.output
        assert [a["target"] for a in json.loads(again.stdout)["artifacts"]] == ["executorch", *DELEGATES]


def flattened(nodes: list[dict[str, object]]) -> bytes:
    """A payload of one file of five bytes, with this tree."""
    return b"hello" + json.dumps({"nodes": nodes}).encode()[::-1]


@pytest.mark.parametrize("name", ["..", "../out", "a/b", "/etc/out", ""])
def test_no_name_in_a_core_ml_payload_leads_out_of_its_folder(name: str, tmp_path: Path) -> None:
    region = {"offset": 0, "size": 5}
    nodes: list[dict[str, object]] = [
        {"kind": 0, "dataRegion": region, "children": {}},
        {"kind": 1, "dataRegion": region, "children": {name: 0}},
        {"kind": 1, "dataRegion": region, "children": {_coreml.MODEL: 1}},
    ]
    with pytest.raises(ValueError, match="holds no Core ML package"):
        _coreml._unpacked(flattened(nodes), tmp_path, 0)
    assert [p.name for p in tmp_path.rglob("*")] == [_coreml.MODEL]


def test_a_core_ml_payload_that_refers_to_itself_is_refused(tmp_path: Path) -> None:
    nodes: list[dict[str, object]] = [
        {"kind": 1, "dataRegion": {}, "children": {"again": 0}},
        {"kind": 1, "dataRegion": {}, "children": {_coreml.MODEL: 0}},
    ]
    with pytest.raises(ValueError, match="holds no Core ML package"):
        _coreml._unpacked(flattened(nodes), tmp_path, 0)


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9), st.sampled_from(["none", "relu"]))
def test_the_int8_linear_is_the_integer_sum_that_it_stands_for(seed: int, inputs: int, outputs: int, act: str) -> None:
    rng = np.random.default_rng(seed)
    x, w = rng.integers(-128, 128, (3, inputs)), rng.integers(-127, 128, (outputs, inputs))
    bias, scales = rng.normal(size=outputs), rng.uniform(0.01, 0.1, outputs)
    padded = np.zeros((outputs + 3, inputs + 2))
    padded[:outputs, :inputs] = w
    got = LINEAR(
        torch.tensor(x, dtype=torch.int8),
        0.05,
        -3,
        torch.tensor(padded[:outputs], dtype=torch.int8),
        torch.zeros(outputs),
        torch.tensor(np.pad(scales, (0, 3)), dtype=torch.float32),
        0.07,
        5,
        torch.tensor(bias, dtype=torch.float32),
        act,
    )
    exact = 0.05 * scales * ((x + 3) @ w.T) + bias
    exact = np.maximum(exact, 0) if act == "relu" else exact
    assert np.abs(got.numpy() - np.clip(exact / 0.07 + 5, -128, 127)).max() <= 0.501  # rounded to the nearest


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2]), st.sampled_from([(1, 1), (3, 2)]))
def test_the_int8_convolution_is_that_of_its_weights_laid_out_flat(
    seed: int, groups: int, kernel: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-128, 128, (1, 4, 5, 6), generator=generator, dtype=torch.int8)
    w = torch.randint(-127, 128, (6, 4 // groups, *kernel), generator=generator, dtype=torch.int8)
    scales = torch.rand(6, generator=generator) * 0.01 + 0.001
    got = IMAGE(
        x,
        0.05,
        2,
        w.permute(0, 2, 3, 1).flatten(1),
        w,
        scales,
        1.0,
        0,
        None,
        kernel,
        [1, 2],
        [1, 0],
        [1, 1],
        groups,
        "none",
    )
    real = w.float() * scales[:, None, None, None]
    exact = nn.functional.conv2d((x.float() - 2) * 0.05, real, None, [1, 2], [1, 0], [1, 1], groups)
    assert (got - exact.clamp(-128, 127)).abs().max() <= 0.501


def test_the_depthwise_convolution_keeps_channels_apart() -> None:
    x = torch.zeros(1, 3, 4, 4, dtype=torch.int8)
    x[0, 1] = 10
    w_HWO = torch.ones(2, 2, 3, dtype=torch.int8)
    got = DEPTHWISE(x, 1.0, 0, w_HWO, w_HWO, torch.ones(3), 1.0, 0, None, [2, 2], [1, 1], [0, 0], [1, 1], 3, "none")
    assert got[0].amax((1, 2)).tolist() == [0.0, 40.0, 0.0]
