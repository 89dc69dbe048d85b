"""What is not installed costs the targets that need it, and no other; where nothing can be had, exit code 4."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepass.errors import GATE_FAILED, NOT_EVALUATED, NOT_INSTALLED, OK, MissingExtraError, UnloadableError, together
from edgepass.judging import manifest
from runtime_tests.conftest import Done
from runtime_tests.judging.test_standing import MODEL, edited

Cli = Callable[..., Done]
EXPORT = ["--recipe", "fp32"]


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "small.py").write_text(MODEL)
    return f"{tmp_path}/small.py:get_model"


def without(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """In this process, which converts."""
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)


def without_in_children(monkeypatch: pytest.MonkeyPatch, folder: Path, module: str) -> None:
    """In those that run files."""
    folder.mkdir()
    (folder / f"{module}.py").write_text(f"raise ModuleNotFoundError(name={module!r})")
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.mark.export
def test_a_target_that_is_not_installed_is_a_record_and_the_others_are_written(
    edgepass: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    without(monkeypatch, "litert_torch")
    out = tmp_path / "o"
    done = edgepass("export", model, "-o", out, "--target", "tflite", "--target", "onnx", *EXPORT)
    assert done.code == GATE_FAILED, done.err
    absent, written = manifest.read(out).artifacts
    assert (absent.file, absent.verdict) == ("", "fail")
    assert absent.reasons == ["litert-torch is not installed: pip install 'edgepass[tflite]'"]
    assert written.verdict == "pass", written.reasons
    assert (out / written.file).is_file()
    assert (out / manifest.REPORT).is_file()
    said = " ".join(done.out.split())
    assert "next: pip install 'edgepass[tflite]' (brings what a file was not written, or not judged" in said


@pytest.mark.export
@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (["tflite"], "litert-torch is not installed: pip install 'edgepass[tflite]'"),
        (
            ["tflite", "coreml"],
            "litert-torch and coremltools are not installed: pip install 'edgepass[tflite,coreml]'",
        ),
    ],
)
def test_an_export_of_nothing_that_is_installed_ends_with_4_and_leaves_nothing(
    edgepass: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, targets: list[str], said: str
) -> None:
    without(monkeypatch, "litert_torch", "coremltools")
    asked = [word for target in targets for word in ("--target", target)]
    done = edgepass("export", model, "-o", tmp_path / "o", *asked, *EXPORT, "--recipe", "fp16")
    assert done.code == NOT_INSTALLED, done.err
    assert done.sentence == f"edgepass: {said}"
    assert [f.name for f in tmp_path.iterdir() if f.name != "__pycache__"] == ["small.py"]


@pytest.mark.export
def test_a_file_whose_runtime_is_not_installed_is_not_judged_and_the_others_are(
    edgepass: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    out = tmp_path / "o"
    made = edgepass("export", model, "-o", out, "--target", "onnx", "--target", "coreml", *EXPORT)
    assert made.code == OK, made.err
    without_in_children(monkeypatch, tmp_path / "absent", "onnxruntime")
    done = edgepass("validate", out, "--trust", "--json")
    assert done.code == NOT_EVALUATED, done.out + done.err
    onnx, coreml = json.loads(done.out)["artifacts"]
    assert onnx["verdict"] == "not-evaluated"
    assert onnx["reasons"] == ["not judged here: onnxruntime is not installed: pip install 'edgepass[onnx]'"]
    assert coreml["verdict"] == "pass"

    timed = edgepass("benchmark", out, "--runs", 1)
    assert timed.code == NOT_EVALUATED, timed.err
    said = " ".join(timed.out.split())
    assert f"{onnx['file']} is not timed: onnxruntime is not installed: pip install 'edgepass[onnx]'" in said
    rows = json.loads(edgepass("benchmark", out, "--runs", 1, "--json").out)
    assert [(row["file"], row["latency"] is None) for row in rows] == [(onnx["file"], True), (coreml["file"], False)]
    assert edgepass("benchmark", out / onnx["file"]).code == NOT_INSTALLED

    edited(out, lambda made: made["artifacts"][1].update(content_sha256="0" * 64))
    assert edgepass("validate", out, "--trust").code == GATE_FAILED, "what can be judged still is"

    alone = edgepass("validate", out / onnx["file"], "--reference", model)
    assert alone.code == NOT_INSTALLED
    assert "pip install 'edgepass[onnx]'" in alone.sentence


@pytest.mark.export
def test_a_file_that_was_written_stays_where_its_runtime_is_not_installed(
    edgepass: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    without_in_children(monkeypatch, tmp_path / "absent", "onnxruntime")
    out = tmp_path / "o"
    done = edgepass("export", model, "-o", out, "--target", "onnx", "--target", "coreml", *EXPORT)
    assert done.code == NOT_EVALUATED, done.err
    onnx, coreml = manifest.read(out).artifacts
    assert (out / onnx.file).is_file()
    assert (onnx.verdict, onnx.content_sha256, coreml.verdict) == ("not-evaluated", "", "pass")
    monkeypatch.delenv("PYTHONPATH")
    done = edgepass("validate", out, "--trust", "--json")  # installed meanwhile
    assert done.code == OK, done.out


def test_all_that_is_absent_is_one_sentence() -> None:
    missing = [
        MissingExtraError("x", "a"),
        UnloadableError("y"),
        MissingExtraError("z", "b"),
        MissingExtraError("x", "a"),
    ]
    assert str(together(missing)) == "x and z are not installed: pip install 'edgepass[a,b]'"
    assert str(together(missing[1:2])) == "y"
