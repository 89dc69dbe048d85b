"""A target that fails is a record with its reason; what the others can do is written all the same."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgepass import catalog, exporters, pipeline
from edgepass.errors import BAD_INPUT, GATE_FAILED, ArtifactError, InputError
from edgepass.exporters import executorch
from edgepass.exporters.executorch import _kernels
from edgepass.judging import manifest, verdict
from edgepass.judging.candidate import Candidate, Standard, Yardstick
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import Latency
from edgepass.pipeline import build
from edgepass.quantize.recipe import Recipe, Scheme
from edgepass.runtimes import _child
from edgepass.samples import Samples
from runtime_tests.conftest import CONVERTERS_WARN, Done

pytestmark = CONVERTERS_WARN
Cli = Callable[..., Done]

SORTS = """
import torch
from torch import nn


class Sorted(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(7, 5)

    def forward(self, x):
        return torch.nanquantile(self.inner(x), 0.5, dim=-1)


def get_model():
    torch.manual_seed(0)
    return Sorted()


def get_args():
    return (torch.linspace(-1.0, 1.0, 7)[None],)
"""


@pytest.mark.export
def test_a_target_that_fails_costs_the_others_nothing(
    edgepass: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ExecuTorch refuses the one recipe beforehand, and has no kernel for what the other writes: a sort, left one."""
    monkeypatch.setattr(executorch, "REWRITES", [name for name in executorch.REWRITES if name != "ordered"])
    monkeypatch.setattr(_kernels, "lacks", lambda operation: False)
    (tmp_path / "sorts.py").write_text(SORTS)
    out = tmp_path / "o"
    asked = ("--target", "onnx", "--target", "executorch", "--recipe", "fp32", "--recipe", "weight_only_wi8_afp32")
    done = edgepass("export", f"{tmp_path}/sorts.py:get_model", "-o", out, *asked)
    assert done.code == GATE_FAILED, done.err
    made = manifest.read(out)
    records = {(a.target, a.recipe): a for a in made.artifacts}
    assert len(records) == 4
    assert records["onnx", "fp32"].verdict == "pass"
    assert (out / records["onnx", "fp32"].file).is_file()
    ran = records["executorch", "fp32"]
    assert (ran.verdict, (out / ran.file).is_file()) == ("fail", True)
    assert "aten::sort.values" in ran.reasons[0]
    refused = records["executorch", "weight_only_wi8_afp32"]
    assert (refused.verdict, refused.file, refused.bytes, refused.content_sha256) == ("fail", "", 0, "")
    assert "dynamic_wi8_afp32" in refused.reasons[0]
    assert "again" not in (out / manifest.FILE).read_text()
    assert not [p for p in out.iterdir() if p.name.startswith(".")]
    assert "not written" in (out / manifest.REPORT).read_text()
    assert "aten::sort.values" in " ".join(done.out.split())
    again = edgepass("validate", out, "--trust")
    assert again.code == GATE_FAILED, again.err
    assert "dynamic_wi8_afp32" in " ".join(again.out.split())


@pytest.mark.parametrize(("scheme", "believed"), [("static", False), ("float32", True)])
def test_a_float32_file_is_its_own_yardstick_whatever_its_name(
    scheme: Scheme, believed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ArtifactError("m.onnx does not run")

    monkeypatch.setattr(_child, "run", fails)
    (tmp_path / "m.onnx").write_bytes(b"")
    chosen = Recipe(name="fp32" if scheme == "static" else "mine", summary="", scheme=scheme, weights="int8")
    file = Candidate(path=tmp_path / "m.onnx", target="onnx", runtime="onnx", recipe=chosen)
    zeros = np.zeros((2, 1, 3), np.float32)
    standard = Standard(samples=Samples(inputs=[zeros]), reference=[zeros], score=None)
    why = "the float32 model cannot be had as a file of onnx, so this one is not believed: it does not run"
    ((record, _),) = pipeline.judge([file], {"": standard}, Gates(), {("onnx", ""): why})
    assert record.reasons == [*([] if believed else [why]), "m.onnx does not run"]


@pytest.mark.parametrize(("scheme", "told"), [("static", True), ("float32", False)])
def test_what_is_slower_than_float32_is_told_by_its_scheme(scheme: Scheme, told: bool) -> None:
    chosen = Recipe(name="fp32" if scheme == "static" else "mine", summary="", scheme=scheme, weights="int8")
    latency = Latency(p50_us=30.0, p95_us=40.0, threads=1, runs=200, evidence="host runtime")
    stick = Yardstick(bytes=1, peak_bytes=1, p50_us=10.0, p95_us=20.0)
    assert verdict._slower(latency, stick, chosen) == (
        ["fp32 takes 3 times as long here as float32 in the same runtime (host runtime)"] if told else []
    )


def build_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> manifest.Manifest:
    """An export whose first target raises `error` when it has written a part of its file."""

    def fails(lowered: object, path: Path) -> None:
        path.write_bytes(b"a part")
        raise error

    monkeypatch.setattr(catalog.load("targets", "coreml"), "write", fails)
    x = torch.linspace(-1.0, 1.0, 7)[None]
    return build(nn.Linear(7, 5), (x,), out=tmp_path / "o", targets=["coreml", "onnx"], recipe="fp32")


@pytest.mark.export
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "converting took more memory than is free here; free some, allow more (ulimit -v)"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "converting took more memory than is free here"),
        (FileNotFoundError(2, "No such file or directory", "/no/such/data"), "FileNotFoundError: [Errno 2] No such"),
    ],
)
def test_a_converter_that_fails_at_memory_or_a_file_costs_the_others_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    made = build_with(tmp_path, monkeypatch, error)
    failed, written = made.artifacts
    assert (failed.target, failed.verdict, failed.file) == ("coreml", "fail", "")
    assert said in failed.reasons[0]
    assert (written.target, written.verdict) == ("onnx", "pass")
    assert sorted(f.name for f in (tmp_path / "o").iterdir() if f.suffix in (".onnx", ".mlpackage")) == [written.file]


@pytest.mark.export
def test_memory_that_ends_beside_the_converter_costs_the_others_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = exporters.requested

    def ends(name: str, job: exporters.Job) -> object:
        if name == "coreml":
            raise MemoryError
        return asked(name, job)

    monkeypatch.setattr(exporters, "requested", ends)
    made = build(nn.Linear(7, 5), (torch.ones(1, 7),), out=tmp_path / "o", targets=["coreml", "onnx"], recipe="fp32")
    assert [a.verdict for a in made.artifacts] == ["fail", "pass"]
    assert "coreml cannot convert the model with fp32: converting took more memory" in made.artifacts[0].reasons[0]
    assert not list((tmp_path / "o").glob("*.mlpackage"))


def test_a_full_disk_ends_the_whole_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no room to write"):
        build_with(tmp_path, monkeypatch, OSError(28, "No space left on device", "/elsewhere"))
    assert not list(tmp_path.iterdir())


def test_what_no_target_can_do_is_refused_before_anything_is_loaded(edgepass: Cli, tmp_path: Path) -> None:
    asked = ("--target", "executorch", "--recipe", "weight_only_wi8_afp32")
    done = edgepass("export", f"{tmp_path}/none.py:get_model", "-o", tmp_path / "o", *asked)
    assert done.code == BAD_INPUT
    assert "the nearest recipe that it can is dynamic_wi8_afp32" in done.sentence
    assert not (tmp_path / "o").exists()
