"""A disk that is full is no fault of the file: it is said which place has no room, and no verdict is given."""

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from onnx import TensorProto, helper, numpy_helper

from edgepass import staging
from edgepass.errors import BAD_INPUT
from edgepass.judging import manifest
from runtime_tests.conftest import Done

Cli = Callable[..., Done]
ASK = """
import resource, sys
from pathlib import Path
import numpy as np
from edgepass.errors import InputError
from edgepass.runtimes import _child
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 15, 1 << 15))
asked = {
    "its weights": lambda path: _child.inspect("onnx", path, values=True),
    "its outputs": lambda path: _child.run("onnx", path, [np.zeros((1, 1), np.float32)]),
    "its outputs at a batch": lambda path: _child.run(
        "onnx", path, [np.zeros((1, 1), np.float32)], batches=[[np.zeros((1, 1), np.float32)]]
    ),
}
try:
    asked[sys.argv[2]](Path(sys.argv[1]))
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize("asked", ["its weights", "its outputs", "its outputs at a batch"])
def test_an_answer_that_finds_no_room_is_not_held_against_the_file(tmp_path: Path, asked: str) -> None:
    """By a bound on the size of files, which a full disk is to who writes one."""
    weight = numpy_helper.from_array(np.zeros(10_007, np.float32), "w")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [n]) for name, n in (("x", 1), ("y", 10_007))]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weight])
    path = tmp_path / "model.onnx"
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    line = [sys.executable, "-c", ASK, str(path), asked]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=120)
    assert "where a child leaves its answer, is full; make room there, or name another with TMPDIR" in done.stdout, done
    assert "Traceback" not in done.stderr


def test_the_place_that_is_full_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full, temporary = OSError(errno.ENOSPC, "No space left on device"), tmp_path / "temporary"
    monkeypatch.setattr(staging.tempfile, "gettempdir", lambda: str(temporary))
    free = {temporary: 0, tmp_path / "out": 5 << 20}
    monkeypatch.setattr(staging, "_free", lambda path: free[path])
    said = f"no room to write {temporary}: 0 MB are free there; make room or name another with TMPDIR"
    assert staging.explain(full, tmp_path / "out") == said
    free[temporary] = 7 << 20
    said = f"no room to write {tmp_path / 'out'}: 5 MB are free there; make room or name another -o"
    assert staging.explain(full, tmp_path / "out") == said


@pytest.mark.parametrize("command", ["sign", "report"])
def test_what_was_there_stays_when_there_is_no_room_for_the_new(
    edgepass: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    empty = {"verdict": "pass", "model": {"name": "m", "source": "m", "inputs": [], "outputs": [], "parameters": 0}}
    rest = {"versions": {}, "seed": 0, "gates": {}, "data": [], "artifacts": []}
    out = tmp_path / "out"
    out.mkdir()
    (out / manifest.FILE).write_text(json.dumps(empty | rest))
    old = {manifest.SIGNATURE: b"old signature", manifest.REPORT: b"old report"}
    for name, content in old.items():
        (out / name).write_bytes(content)
    key = tmp_path / "key"
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key.write_bytes(Ed25519PrivateKey.generate().private_bytes(*pem))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(staging.os, "fsync", full)
    done = edgepass(command, out, *(("--key", key) if command == "sign" else ()))
    assert done.code == BAD_INPUT, done.out + done.err
    assert "no room to write" in done.sentence
    assert "copy of it" in done.sentence
    assert {f.name: f.read_bytes() for f in out.iterdir() if f.name in old} == old
    assert len(list(out.iterdir())) == 3
