"""A limit of the shell on address space is told in a sentence before a converter is loaded, which would not end."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from edgepass import catalog
from edgepass.errors import BAD_INPUT, UnloadableError
from edgepass.exporters import Job, _space, export
from edgepass.exporters._capture import capture
from edgepass.quantize import recipe as recipes
from runtime_tests.cli.test_users_code import sentence, user_file

GIB = 1 << 30


def limited(*args: str, cwd: Path, limit: int) -> subprocess.CompletedProcess[str]:
    """`edgepass ARGS` in a shell that allows so many bytes of address space."""
    line = f"ulimit -v {limit // 1024}; exec '{sys.executable}' -m edgepass {' '.join(args)}"
    return subprocess.run(["bash", "-c", line], cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


def test_too_little_address_space_is_a_sentence(tmp_path: Path) -> None:
    """TFLite's converter asked for 32 MB again and again in what `ulimit -v 1500000` leaves, and never ended."""
    user_file(tmp_path)
    args = ("export", "mine.py:get_model", "-o", "out", "--target", "tflite", "--recipe", "fp32")
    done = limited(*args, cwd=tmp_path, limit=1_500_000 * 1024)
    assert done.returncode == BAD_INPUT, done.stderr
    assert sentence(done) == (
        "edgepass: tflite cannot convert in the 1.43 GiB of address space that this shell allows (ulimit -v 1500000), "
        "for it needs 2.61 GiB for this model; say `ulimit -v unlimited` first"
    )
    assert sorted(f.name for f in tmp_path.iterdir() if f.name != "__pycache__") == ["mine.py"]


@pytest.mark.parametrize("name", catalog.names("targets"))
def test_every_target_is_asked_before_it_is_loaded(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(capture(nn.Linear(63, 7), (torch.zeros(1, 63),)), recipes.read("fp32"))
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (GIB, GIB))
    with pytest.raises(UnloadableError, match=rf"{name} cannot convert in the 1 GiB of address space"):
        export(name, job, tmp_path / "file")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("width", [1, 63, 1021])
def test_weights_take_room_too(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    program = torch.export.export(nn.Linear(width, width, bias=False), (torch.zeros(1, width),))
    needed = GIB + _space.COPIES * 4 * width * width
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (needed, needed))
    _space.check("tflite", GIB, program)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (needed - 1, needed - 1))
    with pytest.raises(UnloadableError, match="ulimit -v unlimited"):
        _space.check("tflite", GIB, program)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    _space.check("tflite", GIB, program)
