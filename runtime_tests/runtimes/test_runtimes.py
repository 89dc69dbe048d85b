"""Every runtime, from outside: files made by the real converters, run and read in the child process, and abused."""

import json
import math
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepass.errors import ArtifactError, InputError, MissingExtraError, UnknownNameError
from edgepass.runtimes import Contents, _arena, _child, _worker
from edgepass.runtimes._child import Limits
from edgepass.runtimes.eager import _archive
from edgepass.runtimes.executorch import _file
from edgepass.runtimes.tflite import in_order
from runtime_tests.conftest import ROOT

RUNTIMES = {".pt2": "eager", ".pte": "executorch", ".tflite": "tflite", ".onnx": "onnx"}
FLOAT = ["float.pt2", "float.pte", "float.tflite", "float.onnx"]
MATRIX_FLOPS = 2 * (13 * 16 * 3 * 3 + 13 * 16 * 3 + 13 * 16 * 48 + 2 * 13 * 13 * 16 + 13 * 16 * 16 + 13 * 16 * 5)
"""Of the model below: convolution, depthwise convolution, projection, two products of attention, output, head."""

BOUNDED = Limits(seconds=30, memory_bytes=4 << 30)


def build(folder: Path) -> None:
    """Write the files that the tests look at. Its own process: converters print, warn, and take memory."""
    import torch
    from ai_edge_quantizer import quantizer, recipe
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer
    from executorch.exir import to_edge_transform_and_lower
    from litert_torch import convert
    from litert_torch.quantize import pt2e_quantizer
    from litert_torch.quantize.quant_config import QuantConfig
    from torch import Tensor, nn
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    class Model(nn.Module):
        """x [batch, 3 channels, 13 steps] -> [batch, 13, 5] and the attention weights [batch, 13, 13]."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(3, 16, 3, padding=1)
            self.depthwise = nn.Conv1d(16, 16, 3, padding=1, groups=16)
            self.norm = nn.LayerNorm(16)
            self.qkv, self.out, self.head = nn.Linear(16, 48), nn.Linear(16, 16), nn.Linear(16, 5)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = self.depthwise(torch.relu(self.conv(x))).transpose(1, 2)
            q, k, v = self.qkv(self.norm(y)).chunk(3, -1)
            weights = torch.bmm(q, k.transpose(1, 2)).mul(0.25).softmax(-1)
            return self.head(self.out(torch.bmm(weights, v)) + y), weights

    class Mixed(nn.Module):
        """A linear layer, which XNNPACK takes, and a 3-D convolution, which it does not: equal work in each."""

        def __init__(self) -> None:
            super().__init__()
            self.linear, self.conv = (
                nn.Linear(8, 8, bias=False),
                nn.Conv3d(1, 1, (1, 1, 8), padding=(0, 0, 4), bias=False),
            )

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.linear(x)[None, None, None])

    class Many(nn.Module):
        """Twelve inputs and outputs, told apart by their factors; args_10 sorts before args_2 as text."""

        def forward(self, *xs: Tensor) -> tuple[Tensor, ...]:
            return tuple(x * (i + 1) for i, x in enumerate(xs))

    def export(model: nn.Module, args: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
        return torch.export.export(model, args, strict=False)

    def pte(program: torch.export.ExportedProgram, name: str) -> None:
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        (folder / name).write_bytes(lowered.to_executorch().buffer)

    torch.manual_seed(0)
    torch.set_num_threads(1)
    model, x = Model().eval(), (torch.randn(1, 3, 13),)
    with torch.no_grad():
        model.qkv.weight[::2] = 0.0  # exactly half of it
    many = tuple(torch.ones(1, 2) for _ in range(12))
    torch.export.save(export(model, x), folder / "float.pt2")
    batch = {0: torch.export.Dim("batch", min=1, max=16)}
    dynamic = torch.export.export(model, (torch.randn(2, 3, 13),), dynamic_shapes=(batch,))
    torch.export.save(dynamic, folder / "dynamic.pt2")
    pte(export(model, x), "float.pte")
    pte(export(Mixed().eval(), (torch.randn(8, 8),)), "mixed.pte")
    pte(export(Many().eval(), many), "many.pte")
    convert(model, x).export(str(folder / "float.tflite"))
    convert(Many().eval(), many).export(str(folder / "many.tflite"))
    torch.onnx.export(model, x, folder / "float.onnx", dynamo=True, external_data=False)

    def quantized(*, fold: bool) -> nn.Module:
        per_channel = xnnpack_quantizer.get_symmetric_quantization_config(is_per_channel=True)
        quantizer_ = xnnpack_quantizer.XNNPACKQuantizer().set_global(per_channel)
        prepared = prepare_pt2e(export(model, x).module(), quantizer_)
        torch.manual_seed(1)
        for _ in range(8):
            prepared(torch.randn(1, 3, 13))
        return convert_pt2e(prepared, fold_quantize=fold)

    pte(export(quantized(fold=True), x), "int8.pte")
    config = pt2e_quantizer.get_symmetric_quantization_config(is_per_channel=True)
    config = QuantConfig(pt2e_quantizer=pt2e_quantizer.PT2EQuantizer().set_global(config))
    convert(quantized(fold=False), x, quant_config=config).export(str(folder / "int8.tflite"))
    for name, steps in (("hybrid", recipe.dynamic_wi8_afp32()), ("weight_only", recipe.weight_only_wi8_afp32())):
        converter = quantizer.Quantizer(str(folder / "float.tflite"))
        converter.load_quantization_recipe(steps)
        converter.quantize().export_model(str(folder / f"{name}.tflite"))


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", __name__, folder], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(scope="session")
def samples() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((7, 1, 3, 13)).astype(np.float32)


@pytest.fixture(scope="session")
def reference(files: Path, samples: np.ndarray) -> _child.Measurement:
    return run(files / "float.pt2", [samples])


@pytest.fixture(scope="session")
def contents(files: Path) -> Callable[[str], Contents]:
    """What a file holds, read once."""
    return cache(lambda name: inspect(files / name))


def run(path: Path, inputs: Sequence[np.ndarray], **options: object) -> _child.Measurement:
    options = {"warmup": 1, "latency_runs": 3, **options}
    return _child.run(RUNTIMES[path.suffix], path, inputs, **options)  # type: ignore[arg-type]


def inspect(path: Path, limits: Limits = Limits()) -> Contents:  # noqa: B008 (frozen)
    return _child.inspect(RUNTIMES[path.suffix], path, limits)


class TestRunning:
    @pytest.mark.parametrize("name", FLOAT)
    def test_float_files_give_the_outputs_of_the_program(
        self, files: Path, samples: np.ndarray, reference: _child.Measurement, name: str
    ) -> None:
        got = run(files / name, [samples])
        assert [y.shape for y in got.outputs] == [(7, 1, 13, 5), (7, 1, 13, 13)]
        for y, want in zip(got.outputs, reference.outputs, strict=True):
            np.testing.assert_allclose(y, want, atol=1e-5)
        assert got.latency.runs == 3
        assert 0 < got.latency.p50_us <= got.latency.p95_us

    @pytest.mark.parametrize("name", ["int8.pte", "int8.tflite", "hybrid.tflite"])
    def test_quantised_files_take_and_give_float(
        self, files: Path, samples: np.ndarray, reference: _child.Measurement, name: str
    ) -> None:
        got = run(files / name, [samples])
        for y, want in zip(got.outputs, reference.outputs, strict=True):
            assert y.dtype == np.float32
            assert 0.0 < np.abs(y - want).max() < 0.15

    @pytest.mark.parametrize("name", ["many.pte", "many.tflite"])
    def test_inputs_and_outputs_keep_their_order(self, files: Path, name: str) -> None:
        inputs = [np.full((1, 1, 2), 100.0 + i, np.float32) for i in range(12)]
        outputs = run(files / name, inputs).outputs
        assert [float(y[0, 0, 0]) for y in outputs] == [(100.0 + i) * (i + 1) for i in range(12)]

    @pytest.mark.parametrize("name", [n for n in FLOAT if n != "float.pt2"])
    def test_memory_is_that_of_the_file_and_not_of_the_runtimes_import(
        self, files: Path, samples: np.ndarray, name: str
    ) -> None:
        assert 0 < run(files / name, [samples[:1]]).peak_bytes < 24 << 20

    def test_a_program_with_a_dynamic_batch_runs_at_another_batch(self, files: Path, samples: np.ndarray) -> None:
        together = np.moveaxis(samples, 1, 0)  # one sample of batch 7
        assert run(files / "dynamic.pt2", [together]).outputs[0].shape == (1, 7, 13, 5)


class TestReading:
    @pytest.mark.parametrize("name", ["float.pte", "int8.pte", "float.tflite", "int8.tflite", "float.onnx"])
    def test_every_format_tells_the_same_matrix_work(self, contents: Callable[[str], Contents], name: str) -> None:
        assert sum(contents(name).flops.values()) == MATRIX_FLOPS

    @pytest.mark.parametrize("name", FLOAT)
    def test_float_weights_are_float_and_zeros_are_counted(
        self, contents: Callable[[str], Contents], name: str
    ) -> None:
        weights = contents(name).weights
        assert {w.dtype for w in weights} == {"float32"}
        (qkv,) = [w for w in weights if sorted(w.shape) == [16, 48]]
        assert qkv.zeros == 0.5
        assert (
            sum(math.prod(w.shape) for w in weights)
            == 16 * 9 + 16 + 48 + 16 + 32 * (name != "float.tflite") + 48 * 17 + 16 * 17 + 5 * 17
        )

    @pytest.mark.parametrize("name", ["int8.pte", "int8.tflite"])
    def test_int8_weights_are_int8_per_channel_and_biases_int32(
        self, contents: Callable[[str], Contents], name: str
    ) -> None:
        weights = contents(name).weights
        matrices = [w for w in weights if len(w.shape) > 1]
        assert len(matrices) == 5
        assert {(w.dtype, w.granularity) for w in matrices} == {("int8", "per-channel")}
        assert {w.dtype for w in weights if w.shape in {(48,), (5,)}} == {"int32"}
        (qkv,) = [w for w in matrices if w.shape == (48, 16)]
        assert 0.5 <= qkv.zeros < 0.6

    def test_int8_io_is_told_as_it_is_in_the_file(self, contents: Callable[[str], Contents]) -> None:
        assert [x.dtype for x in contents("int8.tflite").inputs] == ["int8"]

    def test_all_matrix_work_of_a_lowered_program_is_delegated(self, contents: Callable[[str], Contents]) -> None:
        found = contents("float.pte")
        assert found.delegated_flops == 1.0
        assert {f.op for f in found.fallbacks} == {"aten::native_layer_norm", "aten::split_with_sizes_copy"}

    def test_work_on_portable_kernels_is_not_delegated(self, contents: Callable[[str], Contents]) -> None:
        found = contents("mixed.pte")
        inside, outside = 2 * 8 * 8 * 8, 2 * 8 * 9 * 8  # padding gives the convolution nine outputs a row
        assert found.flops == {"aten::convolution": outside, "xnnpack.FullyConnected": inside}
        assert found.delegated_flops == pytest.approx(inside / (inside + outside))
        assert "aten::convolution" in {f.op for f in found.fallbacks}

    def test_tflite_names_what_xnnpack_leaves(self, contents: Callable[[str], Contents]) -> None:
        found = contents("float.tflite")
        assert [f.op for f in found.fallbacks] == ["FULLY_CONNECTED"]  # q times k: a weight that is no constant
        assert found.delegated_flops == pytest.approx(1 - 2 * 13 * 13 * 16 / MATRIX_FLOPS)

    def test_hybrid_layers_that_old_runtimes_compute_wrongly_are_noted(
        self, contents: Callable[[str], Contents]
    ) -> None:
        assert "compute wrong results" in " ".join(contents("hybrid.tflite").notes)
        assert not contents("float.tflite").notes

    def test_weights_made_float_on_loading_are_no_activations(self, contents: Callable[[str], Contents]) -> None:
        assert contents("weight_only.tflite").planned_bytes == contents("float.tflite").planned_bytes

    @pytest.mark.parametrize("name", ["float.pte", "float.tflite", "float.onnx"])
    def test_planned_memory_holds_at_least_the_largest_step(
        self, contents: Callable[[str], Contents], name: str
    ) -> None:
        planned = contents(name).planned_bytes
        assert planned is not None
        assert 13 * (16 + 48) * 4 <= planned <= 16 << 10


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[_arena.Node], dict[int | str, int]]:
    count = draw(st.integers(1, 12))
    nodes = [
        _arena.Node(reads=draw(st.lists(st.integers(0, step), max_size=3)), writes=[step + 1]) for step in range(count)
    ]
    sizes = draw(st.lists(st.integers(0, 500), min_size=count + 1, max_size=count + 1))
    return nodes, dict(enumerate(sizes))


@given(graphs())
def test_a_plan_lies_between_what_is_alive_at_once_and_everything(
    graph: tuple[list[_arena.Node], dict[int | str, int]],
) -> None:
    nodes, sizes = graph
    padded = {t: -(-n // 64) * 64 for t, n in sizes.items()}
    alive = max(sum(padded[t] for t in {*node.reads, *node.writes, 0}) for node in nodes)
    assert max(alive, *padded.values()) <= _arena.plan(nodes, [0], [len(nodes)], sizes) <= sum(padded.values())


def test_a_chain_needs_two_buffers() -> None:
    nodes = [_arena.Node(reads=[i], writes=[i + 1]) for i in range(63)]
    assert _arena.plan(nodes, [], [63], dict.fromkeys(range(1, 64), 64)) == 128


def test_an_input_keeps_its_place_to_the_end() -> None:
    nodes = [_arena.Node(reads=[i], writes=[i + 1]) for i in range(63)]
    assert _arena.plan(nodes, [0], [63], dict.fromkeys(range(64), 64)) == 192


def test_numbered_tensors_are_sorted_and_others_left_alone() -> None:
    numbered = [{"name": f"serving_default_args_{i}:0"} for i in (10, 2, 0)]
    assert in_order(numbered) == numbered[::-1]
    named = [{"name": "tokens"}, {"name": "args_0"}]
    assert in_order(named) == named


@pytest.mark.parametrize(
    ("kernel", "shapes", "macs"),
    [
        ("aten::mm", [(5, 7), (7, 3), (5, 3)], 5 * 7 * 3),
        ("aten::bmm", [(2, 5, 7), (2, 7, 3), (2, 5, 3)], 2 * 5 * 7 * 3),
        ("aten::addmm", [(3,), (5, 7), (7, 3), (5, 3)], 5 * 7 * 3),
        ("aten::linear", [(1, 5, 7), (3, 7), (3,), (1, 5, 3)], 5 * 7 * 3),
        ("aten::convolution", [(1, 4, 9), (6, 2, 3), (6,), (1, 6, 7)], 7 * 6 * 2 * 3),
        ("aten::add", [(5, 7), (5, 7), (5, 7)], 0),
        ("aten::mm", [(5, 7)], 0),
    ],
)
def test_kernel_calls_are_counted_by_shape(kernel: str, shapes: list[tuple[int, ...]], macs: int) -> None:
    assert _file._flops(kernel, [{"val_type": "Tensor", "val": {"sizes": list(n)}} for n in shapes]) == 2 * macs


def test_a_transposed_convolution_is_counted_from_its_input() -> None:
    shapes = [[1, 4, 5], [4, 6, 3], [6], [1, 6, 11]]
    tensors = [{"val_type": "Tensor", "val": {"sizes": n}} for n in shapes]
    call = [*tensors[:3], {"val_type": "Bool", "val": {"bool_val": True}}, tensors[3]]
    assert _file._flops("aten::convolution", call) == 2 * 4 * 5 * 6 * 3


class TestAbuse:
    @pytest.mark.parametrize("suffix", RUNTIMES)
    def test_a_truncated_file_is_one_sentence(
        self, files: Path, samples: np.ndarray, tmp_path: Path, suffix: str
    ) -> None:
        whole = (files / f"float{suffix}").read_bytes()
        for i, data in enumerate([b"", whole[:9], whole[: len(whole) // 2]]):
            path = tmp_path / f"{i}{suffix}"
            path.write_bytes(data)
            heavy = suffix in {".pt2", ".pte"}  # a child of these takes seconds
            if not heavy or i == 2:
                _assert_sentence(_survive(lambda path=path: run(path, [samples[:1]], limits=BOUNDED)), path)
            if suffix != ".pt2":
                _assert_sentence(_survive(lambda path=path: inspect(path, BOUNDED)), path)

    @pytest.mark.parametrize(("suffix", "rounds"), [(".tflite", 6), (".onnx", 6), (".pte", 6)])
    def test_flipped_bytes_do_no_harm(
        self, files: Path, samples: np.ndarray, tmp_path: Path, suffix: str, rounds: int
    ) -> None:
        """Some hit a weight and change nothing but numbers; whatever happens, it is an answer or one line, in time."""
        whole = (files / f"float{suffix}").read_bytes()
        rng = np.random.default_rng(0)
        for i in range(rounds):
            path = tmp_path / f"{i}{suffix}"
            path.write_bytes(_flip(whole, rng, 1 << i))
            _assert_sentence(_survive(lambda path=path: inspect(path, BOUNDED)), path, needed=False)
            if suffix != ".pte":
                _assert_sentence(
                    _survive(lambda path=path: run(path, [samples[:1]], limits=BOUNDED)), path, needed=False
                )

    @pytest.mark.slow
    @pytest.mark.parametrize("suffix", RUNTIMES)
    def test_flipped_bytes_do_no_harm_in_many_rounds(
        self, files: Path, samples: np.ndarray, tmp_path: Path, suffix: str
    ) -> None:
        whole = (files / f"float{suffix}").read_bytes()
        rng = np.random.default_rng(1)
        for i in range(12):
            path = tmp_path / f"{i}{suffix}"
            path.write_bytes(_flip(whole, rng, 1 << i % 10))
            _assert_sentence(_survive(lambda path=path: inspect(path, BOUNDED)), path, needed=False)
            _assert_sentence(_survive(lambda path=path: run(path, [samples[:1]], limits=BOUNDED)), path, needed=False)

    @pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if "pt2" in n else n for n in FLOAT])
    def test_inputs_that_the_file_does_not_take_are_one_sentence(self, files: Path, name: str) -> None:
        with pytest.raises(ArtifactError, match=name):
            run(files / name, [np.zeros((1, 2, 2), np.float32)] * 2)

    def test_a_time_limit_is_a_sentence(self, files: Path, samples: np.ndarray) -> None:
        start = time.monotonic()
        with pytest.raises(ArtifactError, match=r"float\.tflite: the tflite runtime gave no answer in 0\.05 s"):
            run(files / "float.tflite", [samples], limits=Limits(seconds=0.05))
        assert time.monotonic() - start < 5

    @pytest.mark.parametrize("name", ["float.onnx", "float.tflite"])
    def test_a_memory_limit_is_a_sentence(self, files: Path, samples: np.ndarray, name: str) -> None:
        with pytest.raises(ArtifactError, match=r"needed more than 0\.0312 GiB"):
            run(files / name, [samples], limits=Limits(memory_bytes=32 << 20))

    def test_nothing_reaches_our_output(
        self, files: Path, samples: np.ndarray, capfd: pytest.CaptureFixture[str]
    ) -> None:
        run(files / "float.pte", [samples])  # its threadpool prints on both
        inspect(files / "float.tflite")
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize(
        ("script", "sentence"),
        [
            ("kill -SEGV $$", "crashed with SIGSEGV"),
            ("echo 'Check failed: x > 0' >&2; kill -ABRT $$", r"crashed with SIGABRT \(Check failed: x > 0\)"),
            ("echo '  what():  std::bad_alloc' >&2; kill -ABRT $$", "needed more than 8 GiB"),
            ("kill -KILL $$", "want of memory"),
            ("kill -XCPU $$", "processor time"),
            ("exit 3", "exit code 3"),
        ],
    )
    def test_a_dying_child_is_a_sentence(
        self, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, sentence: str
    ) -> None:
        shell = tmp_path / "python"
        shell.write_text(f"#!/bin/sh\n{script}\n")
        shell.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(shell))
        with pytest.raises(ArtifactError, match=sentence):
            inspect(files / "float.onnx")

    def test_an_interrupt_takes_the_child_along(self, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        started: list[subprocess.Popen[bytes]] = []
        wait = subprocess.Popen.wait

        def interrupted(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
            if not started:
                started.append(process)
                raise KeyboardInterrupt
            return wait(process, timeout)

        monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            inspect(files / "float.pte")
        assert started[0].returncode == -signal.SIGKILL

    def test_a_missing_package_names_the_pip_line(
        self, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "onnxruntime.py").write_text("raise ModuleNotFoundError(name='onnxruntime')")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        with pytest.raises(MissingExtraError, match=r"onnxruntime is not installed: pip install 'edgepass\[onnx\]'"):
            run(files / "float.onnx", [np.zeros((1, 1, 3, 13), np.float32)])

    def test_modules_in_the_working_folder_are_not_imported(
        self, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "numpy.py").write_text("raise SystemExit('imported')")
        monkeypatch.chdir(tmp_path)
        assert inspect(files / "float.onnx").format == "onnx"

    def test_what_does_not_exist_is_said(self, tmp_path: Path, samples: np.ndarray) -> None:
        with pytest.raises(ArtifactError, match="does not exist"):
            run(tmp_path / "none.pte", [samples])
        with pytest.raises(UnknownNameError, match="did you mean 'tflite'"):
            _child.inspect("tflit", tmp_path)
        with pytest.raises(InputError, match="same number of samples"):
            run(tmp_path / "none.pte", [samples, samples[:3]])
        with pytest.raises(InputError, match="at least one"):
            run(tmp_path / "none.pte", [samples[:0]])

    def test_samples_must_agree_in_shape(self) -> None:
        small, large = np.zeros((1, 2), np.float32), np.zeros((1, 3), np.float32)
        with pytest.raises(ValueError, match="sample 1 gives"):
            _worker._stack([[small], [large]], [small])

    def test_timing_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_worker, "LATENCY_SECONDS", 0.05)

        def slow(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
            time.sleep(0.03)
            return []

        assert 1 <= len(_worker._time(slow, [], 100, 100)) <= 2  # type: ignore[arg-type]


class TestPrograms:
    """A .pt2 that would run code of its own is refused before it is loaded."""

    def test_pickled_sample_inputs(self, files: Path, tmp_path: Path) -> None:
        made = tmp_path / "made"
        attack = b"cos\nmkdir\n(S'" + str(made).encode() + b"'\ntR."  # a pickle that calls os.mkdir
        path = _rewrite(files / "float.pt2", tmp_path, lambda n, b: attack if "sample_inputs" in n else b)
        with pytest.raises(ArtifactError, match="sample inputs are pickled"):
            _archive.load_program(path)
        assert not made.exists()

    def test_pickled_weights(self, files: Path, tmp_path: Path) -> None:
        def edit(name: str, data: bytes) -> bytes:
            return data.replace(b'"use_pickle": false', b'"use_pickle": true ') if "weights_config" in name else data

        with pytest.raises(ArtifactError, match=r"conv\.weight' is pickled"):
            _archive.load_program(_rewrite(files / "float.pt2", tmp_path, edit))

    @pytest.mark.parametrize("target", ["torch.os.system", "torch.ops.load_library", "torch.hub.load", "#x:y"])
    def test_calls_that_are_no_operators(self, files: Path, tmp_path: Path, target: str) -> None:
        def edit(name: str, data: bytes) -> bytes:
            return (
                data.replace(b"torch.ops.aten.relu.default", target.encode()) if name.endswith("model.json") else data
            )

        with pytest.raises(ArtifactError, match="is no operator"):
            _archive.load_program(_rewrite(files / "float.pt2", tmp_path, edit))

    @pytest.mark.parametrize("shape", ["__import__('os')", "Symbol('a b')", "lambdify(1)", "Symbol.__class__", "(", 3])
    def test_shapes_that_are_no_expressions(self, files: Path, tmp_path: Path, shape: object) -> None:
        def edit(name: str, data: bytes) -> bytes:
            if not name.endswith("models/model.json"):
                return data
            program = json.loads(data)
            todo = [program]
            while todo:
                item = todo.pop()
                if isinstance(item, dict):
                    item.update({"expr_str": shape} if "expr_str" in item else {})
                    todo.extend(item.values())
                elif isinstance(item, list):
                    todo.extend(item)
            return json.dumps(program).encode()

        with pytest.raises(ArtifactError, match="no expression of known symbols"):
            _archive.load_program(_rewrite(files / "dynamic.pt2", tmp_path, edit))

    @pytest.mark.parametrize(
        "part", ["data/aotinductor/model/x.so", "data/weights/model.pt", "data/constants/opaque_obj_0"]
    )
    def test_parts_that_hold_code(self, files: Path, tmp_path: Path, part: str) -> None:
        path = _rewrite(files / "float.pt2", tmp_path, lambda n, b: b, part)
        with pytest.raises(ArtifactError, match="can hold code"):
            _archive.load_program(path)

    def test_guards_are_not_executed(self, files: Path, tmp_path: Path, samples: np.ndarray) -> None:
        import torch

        made = tmp_path / "made"

        def edit(name: str, data: bytes) -> bytes:
            if not name.endswith("models/model.json"):
                return data
            return json.dumps({**json.loads(data), "guards_code": [f"__import__('os').mkdir({str(made)!r})"]}).encode()

        program = _archive.load_program(_rewrite(files / "float.pt2", tmp_path, edit))
        assert len(program.module()(torch.from_numpy(samples[0]))) == 2
        assert not made.exists()


def _survive(task: Callable[[], object]) -> str | None:
    """The sentence that it fails with, if it does."""
    try:
        task()
    except ArtifactError as error:
        return str(error)
    return None


def _assert_sentence(sentence: str | None, path: Path, *, needed: bool = True) -> None:
    if sentence is None:
        assert not needed
        return
    assert str(path) in sentence
    assert "\n" not in sentence
    assert len(sentence) < 700


def _flip(data: bytes, rng: np.random.Generator, count: int) -> bytes:
    array = np.frombuffer(data, np.uint8).copy()
    array[rng.integers(0, len(array), count)] ^= rng.integers(1, 256, count).astype(np.uint8)
    return array.tobytes()


def _rewrite(source: Path, folder: Path, edit: Callable[[str, bytes], bytes], *parts: str) -> Path:
    """A copy of the archive with every part edited, and new parts added."""
    path = folder / source.name
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, edit(name, old.read(name)))
        root = old.namelist()[0].split("/")[0]
        for part in parts:
            new.writestr(f"{root}/{part}", b"x")
    return path


if __name__ == "__main__":
    build(Path(sys.argv[1]))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for the child in /proc; run it on Linux")
def test_a_child_and_its_folder_end_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    parent = (
        "import sys; from pathlib import Path; from edgepass.runtimes import _child, _worker;"
        "request = _worker.Request(task='inspect', runtime='eager', path='', seconds=60, memory_bytes=1 << 33);"
        f"folder = Path({str(tmp_path)!r}) / 'job'; folder.mkdir(); import os; os.mkfifo(folder / _worker.REQUEST);"
        "print('started', flush=True); _child._spawn(folder, request)"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    mine = str(tmp_path).encode()

    def children() -> list[bytes]:
        """Command lines of workers of this folder; they wait for a request that never comes."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                found.append(entry.read_bytes())
        return [line for line in found if b"_worker" in line and mine in line and b"-c" not in line.split(b"\0")]

    deadline = time.monotonic() + 30
    while not children() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)
    assert children(), "the child is at work"
    process.kill()
    process.wait()
    process.stdout.close()
    while (children() or (tmp_path / "job").exists()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not children()
    assert not (tmp_path / "job").exists()
