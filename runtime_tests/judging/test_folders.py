"""validate asks all of a folder: files that a model consists of are its own, and golden samples need no other data."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save

from edgepass import staging
from edgepass.errors import BAD_INPUT, GATE_FAILED, NOT_EVALUATED, OK, ArtifactError, InputError
from edgepass.judging import files, manifest, verdict
from runtime_tests.conftest import Done
from runtime_tests.judging.test_standing import MODEL, edited

Cli = Callable[..., Done]

FILE = "small.fp32.onnx"


@pytest.fixture
def out(edgepass: Cli, tmp_path: Path) -> Path:
    (tmp_path / "small.py").write_text(MODEL)
    args = ("--target", "onnx", "--recipe", "fp32")
    made = edgepass("export", f"{tmp_path}/small.py:get_model", "-o", tmp_path / "o", *args)
    assert made.code == OK, made.err
    return tmp_path / "o"


def reasons(done: Done) -> str:
    made: dict[str, Any] = json.loads(done.out)
    return " ".join([*made["reasons"], *(reason for a in made["artifacts"] for reason in a["reasons"])])


@pytest.mark.export
@pytest.mark.parametrize("beside", [f"{FILE}.data", "weights/all.bin"])
def test_weights_beside_a_model_are_files_of_the_folder(edgepass: Cli, out: Path, beside: str) -> None:
    file, data = out / FILE, out / beside
    data.parent.mkdir(exist_ok=True)
    onnx.save_model(onnx.load(file), file, save_as_external_data=True, location=beside, size_threshold=0)

    def as_written_so(made: Any) -> None:
        whole = {"bytes": files.size(file, [beside]), "content_sha256": files.sha256(file, [beside])}
        made["artifacts"][0].update(beside=[beside], **whole)

    said = reasons(edgepass("validate", out, "--trust", "--json"))
    assert "its size is" in said, "the manifest is of another file yet"
    assert "does not list" not in said
    edited(out, as_written_so)
    done = edgepass("validate", out, "--trust", "--json")
    assert done.code == OK, reasons(done)
    assert json.loads(done.out)["artifacts"][0]["beside"] == [beside]
    with pytest.raises(InputError, match="exists; name another -o, or add --overwrite"):
        staging.refuse_existing(out, overwrite=False)

    (data.parent / "more.bin").write_bytes(b"")
    more = Path(beside).with_name("more.bin").as_posix()
    done = edgepass("validate", out, "--trust", "--json")
    assert done.code == GATE_FAILED
    assert f"does not list: {more}" in reasons(done)


@pytest.mark.export
def test_a_metric_s_direction_is_said_once(edgepass: Cli, tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text(f"{MODEL}\n\ndef get_metric():\n    return lambda y, t: (y - t).abs().mean()\n")
    asked = (f"{tmp_path}/small.py:get_model", "-o", tmp_path / "o", "--target", "onnx", "--recipe", "fp32")
    assert "nothing says whether a higher metric is better" in edgepass("export", *asked).sentence
    assert edgepass("export", *asked, "--lower-is-better").code == OK
    done = edgepass("validate", tmp_path / "o", "--trust", "--json")
    assert done.code == OK, done.err
    assert json.loads(done.out)["artifacts"][0]["metric"]["higher_is_better"] is False


@pytest.mark.export
def test_golden_samples_are_asked_whatever_the_data(edgepass: Cli, out: Path) -> None:
    edited(out, lambda made: made["data"][0].update(sha256="0" * 64))
    other = edgepass("validate", out, "--trust", "--json")
    assert other.code == NOT_EVALUATED, reasons(other)
    golden = load_file(out / manifest.GOLDEN)

    def asked(**changed: np.ndarray) -> str:
        (out / manifest.GOLDEN).write_bytes(save(golden | changed))
        done = edgepass("validate", out, "--trust", "--json")
        assert done.code == GATE_FAILED, reasons(done)
        return reasons(done)

    key = "onnx.fp32_0"
    assert f"holds for {key} other numbers than {FILE} gives" in asked(**{key: golden[key] + np.float32(0.01)})
    wrong = asked(input_0=golden["input_0"] + np.float32(1.0))
    assert "holds for reference_0 other numbers than the model gives" in wrong
    assert "golden samples cannot be held against what they are of" in asked(input_0=golden["input_0"][..., :3])
    assert "gives NaN or infinity" in asked(input_0=golden["input_0"] * np.float32(np.nan))


def test_a_folder_of_a_folder_is_not_listed_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "weights" / "deep").mkdir(parents=True)
    for name in ("weights/all.bin", "weights/deep/more.bin", "other.bin"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "weights" / "link").symlink_to(tmp_path)
    left = manifest.strangers(tmp_path, {"weights/all.bin"})
    assert left == ["other.bin", "weights/deep/more.bin", "weights/link"]
    assert manifest.strangers(tmp_path, {"weights"}) == ["other.bin"]


def test_a_reason_names_a_file_without_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given by a relative path too, which a child is told whole."""
    monkeypatch.chdir(tmp_path)
    for told in (Path("out/m.pte"), Path("out/m.pte").resolve()):
        assert (
            verdict.said(ArtifactError(f"{told} does not run"), Path("out/m.pte"), fresh=False) == "m.pte does not run"
        )


def test_a_manifest_that_is_nested_too_deeply_is_none(edgepass: Cli, tmp_path: Path) -> None:
    deep = "[" * 200_000 + "]" * 200_000
    for text in (deep, f'{{"more": {deep}}}'):
        (tmp_path / manifest.FILE).write_text(text)
        for command in ("validate", "report"):
            done = edgepass(command, tmp_path)
            assert done.code == BAD_INPUT, done.err
            assert "manifest.json is not a manifest that this version reads" in done.sentence


@pytest.mark.export
def test_golden_samples_of_no_dimension_are_told(edgepass: Cli, out: Path) -> None:
    edited(out, lambda made: made["data"][0].update(sha256="0" * 64))
    golden = load_file(out / manifest.GOLDEN)
    for key in golden:
        (out / manifest.GOLDEN).write_bytes(save(golden | {key: np.array(1.0, np.float32)}))
        done = edgepass("validate", out, "--trust", "--json")
        assert done.code == GATE_FAILED, done.err


@pytest.mark.export
def test_a_name_that_is_not_utf8_is_told_of_as_others_are(edgepass: Cli, out: Path) -> None:
    (out / os.fsdecode(b"a\xff")).touch()
    assert "its manifest does not list: a�" in reasons(edgepass("validate", out, "--trust", "--json"))
    again = edgepass("export", out.parent / "small.py:get_model", "-o", out, "--target", "onnx", "--overwrite")
    assert again.code == BAD_INPUT
    assert "it holds a�; name another -o" in again.sentence


def test_a_package_is_hashed_whatever_its_files_are_called(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"a\xff")).touch()
    assert len(files.sha256(tmp_path)) == 64
