"""A folder that someone else made: nothing of theirs is run unasked, and no file but its own is opened."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepass.errors import InputError
from edgepass.judging import manifest
from runtime_tests.conftest import Done

Cli = Callable[..., Done]
SPY = """
from pathlib import Path
import torch
Path(__file__).with_name("ran").touch()
def get_model(): return torch.nn.Linear(4, 2)
def get_args(): return (torch.ones(1, 4),)
"""


def strangers(folder: Path, source: str, **artifact: Any) -> Path:
    """A folder with a manifest that says what an attacker likes."""
    record = {"target": "onnx", "file": "m.onnx", "bytes": 1, "content_sha256": "", "recipe": "fp32", "verdict": "pass",
              "reasons": [], "runtime": "onnx"} | artifact  # fmt: skip
    model = {"name": "m", "source": source, "inputs": [], "outputs": [], "parameters": 1}
    text = {
        "verdict": "pass",
        "model": model,
        "versions": {},
        "seed": 0,
        "gates": {},
        "data": [],
        "artifacts": [record],
    }
    folder.mkdir(exist_ok=True)
    (folder / manifest.FILE).write_text(json.dumps(text))
    return folder


@pytest.mark.parametrize("cut", ["", "@1"])
def test_a_python_file_that_a_manifest_names_is_run_only_when_trusted(edgepass: Cli, tmp_path: Path, cut: str) -> None:
    spy = tmp_path / "spy.py"
    spy.write_text(SPY)
    out = strangers(tmp_path / "out", f"{spy}:get_model{cut}")
    (out / "m.onnx").write_bytes(b"no model")
    done = edgepass("validate", out)
    assert done.code == 3
    assert f"made from {spy}:get_model{cut}, and Python code that a folder names is not run unasked" in done.sentence
    assert not (tmp_path / "ran").exists()

    edgepass("validate", out, "--trust")
    assert (tmp_path / "ran").exists()


def test_a_reference_that_the_user_names_is_run(edgepass: Cli, tmp_path: Path) -> None:
    (tmp_path / "spy.py").write_text(SPY)
    out = strangers(tmp_path / "out", "elsewhere.py:get_model")
    (out / "m.onnx").write_bytes(b"no model")
    assert edgepass("validate", out, "--reference", f"{tmp_path / 'spy.py'}:get_model").code == 2  # judged, and fails
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("file", ["/etc/hostname", "../secret", "a/../../secret", "..", ".", "", "a\\b", "a\0b"])
@pytest.mark.parametrize("command", ["validate", "benchmark", "report"])
def test_no_file_outside_the_folder_is_opened(edgepass: Cli, tmp_path: Path, file: str, command: str) -> None:
    (tmp_path / "secret").write_text("secret")
    done = edgepass(command, strangers(tmp_path / "out", "single-xs", file=file))
    assert done.code == 3
    assert "which is no file of that folder, and no other is opened" in done.sentence
    assert not (tmp_path / "out" / "report.html").exists()


def test_a_link_out_of_the_folder_is_not_followed(edgepass: Cli, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    out = strangers(tmp_path / "out", "single-xs")
    (out / "m.onnx").symlink_to("../secret")
    assert "'m.onnx', which is no file of that folder" in edgepass("validate", out).sentence
    (out / "m.onnx").unlink()
    (out / "m.onnx").symlink_to("manifest.json")  # within the folder, nothing of the user's is shown
    assert edgepass("validate", out).code == 2  # judged, and it is no model
    (out / "m.onnx").unlink()
    (out / "m.onnx").symlink_to("m.onnx")
    assert "no file of that folder" in edgepass("validate", out).sentence


@given(st.text())
def test_a_name_is_inside_or_is_refused(tmp_path_factory: pytest.TempPathFactory, file: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "inside"
    strangers(folder, "single-xs", file=file)
    try:
        (record,) = manifest.read(folder).artifacts
    except InputError:
        return
    assert (folder / record.file).parent == folder
    assert record.file not in (".", "..")


def test_a_histogram_has_an_edge_more_than_counts(edgepass: Cli, tmp_path: Path) -> None:
    out = strangers(tmp_path / "out", "single-xs", errors={"edges": [0.0, 1.0], "counts": [1, 2, 3]})
    done = edgepass("report", out)
    assert done.code == 3
    assert "3 counts want 4 edges, not 2" in done.sentence
