"""What a stranger's program takes is bounded: before it is read, while it is, and when it runs here."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgepass.errors import BAD_INPUT, ArtifactError
from edgepass.runtimes import _child, _memory
from edgepass.runtimes.eager import _archive
from runtime_tests.conftest import Done

Cli = Callable[..., Done]
pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="Linux bounds private pages; run it there")


class Greedy(nn.Module):
    """Small as a file; `rows` rows of a megabyte when it runs."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.ones(self.rows, 1 << 18).mean()


def saved(folder: Path, rows: int) -> Path:
    path = folder / "greedy.pt2"
    torch.export.save(torch.export.export(Greedy(rows), (torch.zeros(1, 7),)), path)
    return path


IN_A_FRESH_PROCESS = """
import resource
import pytest, torch
from edgepass.runtimes import _memory

before = resource.getrlimit(resource.RLIMIT_DATA)
_memory.available = lambda: 64 << 20
with _memory.bounded():
    bytearray(16 << 20)
    with pytest.raises(MemoryError):
        bytearray(128 << 20)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        torch.ones(32 << 20)
assert resource.getrlimit(resource.RLIMIT_DATA) == before
bytearray(128 << 20)
"""
"""A heap in which earlier tests left room gives 128 MB without asking the system."""


def test_what_runs_inside_may_take_what_is_free_and_no_more() -> None:
    done = subprocess.run([sys.executable, "-c", IN_A_FRESH_PROCESS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_archive_that_memory_does_not_hold_is_not_read(tmp_path: Path) -> None:
    """Its bytes take no room on the disk, and more in memory than there is."""
    path = tmp_path / "large.pt2"
    path.touch()
    os.truncate(path, 1 << 40)
    for read in (_archive.load_program, _archive.inspect, lambda path: _child.inspect("eager", path)):
        with pytest.raises(
            ArtifactError, match=r"large\.pt2 holds 1.02e\+03 GiB, and reading it takes 3\.2 times that"
        ):
            read(path)


def test_an_archive_that_grows_is_read_as_long_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, 1)
    size, available = path.stat().st_size, _memory.available

    def meanwhile() -> int:
        with path.open("ab") as file:
            file.write(b"more")
        return available()

    monkeypatch.setattr(_archive._memory, "available", meanwhile)
    assert len(_archive._read(path)) == size


def test_a_program_that_takes_more_than_is_free_is_a_sentence(
    edgepass: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, 512)
    monkeypatch.setattr(_memory, "available", lambda: 256 << 20)
    done = edgepass("export", path, "-o", tmp_path / "out", "--target", "onnx", "--recipe", "fp32")
    assert done.code == BAD_INPUT, done.err
    assert "memory" in done.sentence
    assert not (tmp_path / "out").exists()
