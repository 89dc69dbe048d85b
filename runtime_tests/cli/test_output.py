"""Output that nobody reads to its end, and output that finds no room."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = {
    "a table, by rich": ["inspect", "model.onnx"],
    "lines": ["list", "recipes"],
    "JSON": ["list", "recipes", "--json"],
    "help, by click": ["list", "--help"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a small model.onnx."""
    from onnx import TensorProto, helper, save

    one = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    other = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [one], [other])
    folder = tmp_path_factory.mktemp("output")
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    save(model, str(folder / "model.onnx"))
    return folder


def run(command: list[str], folder: Path, out: int) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "edgepass", *command]
    return subprocess.run(line, cwd=folder, stdout=out, stderr=subprocess.PIPE, text=True, check=False)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_reader_that_has_enough_is_no_failure(command: list[str], folder: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run(command, folder, writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_full_disk_is_told_in_a_sentence(command: list[str], folder: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        done = run(command, folder, full)
    finally:
        os.close(full)
    assert done.returncode == 3
    assert done.stderr == ("edgepass: the output could not be written: No space left on device; send it elsewhere\n")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_verdict_that_nobody_reads_to_its_end_stands(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(
        "import torch\ndef get_model(): return torch.nn.Linear(4, 4)\ndef get_args(): return (torch.ones(1, 4),)\n"
    )
    reading, writing = os.pipe()
    os.close(reading)
    wanted = ["--target", "onnx", "--recipe", "fp32", "--max-size", "1B"]
    try:
        done = run(["export", "m.py:get_model", "-o", "out", *wanted, *options], tmp_path, writing)
    finally:
        os.close(writing)
    assert done.returncode == 2, done.stderr
