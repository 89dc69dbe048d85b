"""Files that are cut, flipped, slow or hungry, and children that die: one sentence each, and nothing is left."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from edgepass.errors import ArtifactError, InputError, MissingExtraError, UnknownNameError
from edgepass.runtimes import _child, _worker
from edgepass.runtimes._child import Limits
from runtime_tests.runtimes.written import BOUNDED, FLOAT, RUNTIMES, inspect, run


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
        said = (
            r"float\.tflite: the tflite runtime gave no answer in 0\.05 s; make the model smaller, or the samples fewer"
        )
        with pytest.raises(ArtifactError, match=said):
            run(files / "float.tflite", [samples], limits=Limits(seconds=0.05))
        assert time.monotonic() - start < 5

    @pytest.mark.parametrize("name", ["float.onnx", "float.tflite"])
    def test_a_memory_limit_is_a_sentence(self, files: Path, samples: np.ndarray, name: str) -> None:
        with pytest.raises(ArtifactError, match=r"needed more than 0\.0312 GiB; make the model smaller$"):
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
