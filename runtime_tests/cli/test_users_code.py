"""Whatever a user's file does, a run that ends with 0 has written its files, and stdout holds the verdict alone."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime_tests.conftest import Done

Cli = Callable[..., Done]
MODEL = """
import atexit, itertools, os, sys, time
import torch

class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 4)
    def forward(self, x):
        {forward}
        return self.layer(x)

def get_model():
    {get_model}
    torch.manual_seed(0)
    return Small()

def get_args(): return (torch.ones(1, 8),)
def get_eval_data(): return [(torch.randn(1, 8),) for _ in range(4)]
{module}
"""


def user_file(folder: Path, *, forward: str = "pass", get_model: str = "pass", module: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "mine.py"
    path.write_text(MODEL.format(forward=forward, get_model=get_model, module=module))
    return path


def command(*args: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "edgepass", *map(str, args)]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    return Done(done.returncode, done.stdout, done.stderr).sentence


EXPORT = ["export", "mine.py:get_model", "-o", "out", "--target", "onnx", "--recipe", "fp32"]


@pytest.mark.parametrize(
    ("where", "code", "said"),
    [
        ({"module": "os._exit(0)"}, 3, "ended by code that it called, with exit code 0 and before it was done"),
        ({"get_model": "os._exit(7)"}, 7, "with exit code 7 and before it was done"),
        ({"forward": "os._exit(0)"}, 3, "as os._exit in a model's file does; nothing was finished"),
        ({"get_model": "os.execv('/bin/true', ['true'])"}, 3, "with exit code 0 and before it was done"),
        ({"get_model": "os.kill(os.getpid(), 9)"}, 137, "was ended by SIGKILL; nothing was finished"),
        ({"module": "sys.exit(0)"}, 3, "raises SystemExit: 0"),
        ({"forward": "sys.exit(0)"}, 3, ""),
        ({"module": "def get_decompositions(): sys.exit()"}, 3, "raises SystemExit"),
    ],
)
def test_no_run_ends_with_0_and_nothing_written(tmp_path: Path, where: dict[str, str], code: int, said: str) -> None:
    user_file(tmp_path, **where)
    done = command(*EXPORT, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert said in sentence(done)
    assert sorted(f.name for f in tmp_path.iterdir() if f.name != "__pycache__") == ["mine.py"]


@pytest.mark.export
def test_what_a_file_prints_is_not_on_stdout_beside_the_verdict(tmp_path: Path) -> None:
    loud = "print('loud'); os.write(1, b'louder'); os.system('echo loudest')"
    user_file(tmp_path, forward=loud, get_model=loud, module=f"{loud}\natexit.register(print, 'loud at the end')")
    done = command(*EXPORT, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "pass"
    assert "loudest" in done.stderr
    assert (tmp_path / "out" / "manifest.json").is_file()


@pytest.mark.export
def test_a_working_folder_and_a_fork_are_the_files_own(tmp_path: Path) -> None:
    """The file changes to a folder where its weights are, and forks: one export, where the user asked for it."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "seed").write_text("3")
    module = "os.chdir('data')\nif os.fork() == 0: pass\nelse: os.wait()"
    user_file(tmp_path, get_model="assert open('seed').read() == '3'", module=module)
    done = command(*EXPORT, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report: ") == 1
    assert sorted(f.name for f in tmp_path.iterdir() if f.name != "__pycache__") == ["data", "mine.py", "out"]
    assert [f.name for f in (tmp_path / "data").iterdir()] == ["seed"]


@pytest.mark.export
def test_a_working_folder_that_forward_changes_to_moves_no_output(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    user_file(tmp_path, forward=f"os.chdir({str(tmp_path / 'data')!r})")
    done = command(*EXPORT, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "manifest.json").is_file()
    done = command("validate", "out", "--trust", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = command("validate", "out/mine.fp32.onnx", "--reference", "mine.py:get_model", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "data").iterdir())


@pytest.mark.parametrize(
    "samples",
    [
        "((torch.randn(1, 8),) for _ in itertools.count())",
        "(((torch.ones(1, 8),), torch.ones(4)) for _ in itertools.repeat(0))",
    ],
)
@pytest.mark.parametrize("function", ["get_calibration_data", "get_eval_data"])
def test_data_without_an_end_is_told(edgepass: Cli, tmp_path: Path, samples: str, function: str) -> None:
    path = user_file(tmp_path / "m", module=f"def {function}(): return {samples}")
    done = edgepass("export", f"{path}:get_model", "-o", tmp_path / "out", "--target", "onnx")
    assert done.code == 3
    assert f"mine.py:{function} has given 50,000 samples of" in done.sentence
    assert "and goes on; let it end, with itertools.islice for one" in done.sentence


def test_large_data_without_an_end_is_told_before_memory_is_full(
    edgepass: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgepass import samples

    monkeypatch.setattr(samples, "MOST_BYTES", 64)
    path = user_file(tmp_path / "m", module="def get_eval_data():\n    while True: yield (torch.ones(1, 8),)")
    done = edgepass("export", f"{path}:get_model", "-o", tmp_path / "out", "--target", "onnx")
    assert "mine.py:get_eval_data has given 2 samples of" in done.sentence


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_reaches_the_command(tmp_path: Path, number: int) -> None:
    user_file(tmp_path, get_model="open('begun', 'w').close(); time.sleep(60); open('late', 'w').close()")
    line = [sys.executable, "-m", "edgepass", *EXPORT]
    process = subprocess.Popen(line, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    started = time.monotonic()
    process.send_signal(number)
    assert process.stderr
    with process.stderr:
        told = process.stderr.read()  # until the command has gone too: it holds the other end
    assert process.wait() == (130 if number != signal.SIGKILL else -9)
    assert time.monotonic() - started < 15
    assert "edgepass: stopped; nothing that looks finished was left" in told
    assert not (tmp_path / "late").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_hears_no_signal_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    """As native code does that never returns: at the second Ctrl-C, and some seconds after SIGTERM."""
    deaf = f"signal.pthread_sigmask(signal.SIG_BLOCK, [{int(number)}]); open('begun', 'w').close(); time.sleep(60)"
    user_file(tmp_path, get_model=f"import signal; {deaf}")
    line = [sys.executable, "-m", "edgepass", *EXPORT]
    process = subprocess.Popen(line, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "begun").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    if number == signal.SIGINT:
        time.sleep(0.5)
        process.send_signal(number)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGKILL
    assert "the run was ended by SIGKILL; nothing was finished" in told
    assert not (tmp_path / "out").exists()


def test_a_fork_that_comes_back_is_ended(tmp_path: Path) -> None:
    path = user_file(tmp_path, module="CHILD = os.fork()\nif CHILD: os.waitpid(CHILD, 0)")
    load = f"from edgepass import source; source.load({f'{path}:get_model'!r}); print('loaded', flush=True)"
    done = subprocess.run([sys.executable, "-c", load], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "loaded\n"


def loaded(path: Path, after: str) -> str:
    """What a process prints that loads the model twice, as if one after the other, and then runs `after`."""
    load = f"import os, sys; from edgepass import source; before = list(sys.path); at = os.getcwd()\n{after}"
    done = subprocess.run(
        [sys.executable, "-c", load.replace("LOAD", f"source.load({f'{path}:get_model'!r})")],
        cwd=path.parent.parent, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "module",
    [
        "sys.path.remove(os.path.dirname(os.path.abspath(__file__)))",
        "sys.path = []",
        "sys.path = ('/nowhere',)",
        "sys.path = None",
        "del sys.path",
        "sys.path.clear()",
    ],
)
def test_modules_are_found_whatever_a_file_does_to_their_path(tmp_path: Path, module: str) -> None:
    path = user_file(tmp_path / "m", module=module)
    assert loaded(path, "LOAD; LOAD; print(set(before) <= set(sys.path), type(sys.path).__name__)") == "True list\n"


def test_what_a_file_adds_to_the_path_of_modules_stays_where_it_was(tmp_path: Path) -> None:
    path = user_file(tmp_path / "m", module="sys.path.insert(0, '/first'); sys.path.append('/last')")
    assert loaded(path, "LOAD; print(sys.path == ['/first', *before, '/last'])") == "True\n"


@pytest.mark.parametrize(
    "module",
    [
        "import tempfile\nwith tempfile.TemporaryDirectory() as d: os.chdir(d)",
        "os.mkdir('gone'); os.chdir('gone')\ndef get_decompositions(): os.rmdir(os.getcwd()); return {}",
    ],
)
def test_a_working_folder_that_is_gone_is_left(tmp_path: Path, module: str) -> None:
    path = user_file(tmp_path / "m", module=module)
    assert loaded(path, "LOAD; LOAD; print(os.getcwd() == at)") == "True\n"


def test_a_current_folder_that_a_file_takes_away_is_told(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    user_file(tmp_path / "here", module="import shutil; shutil.rmtree(os.getcwd())")
    done = command(*EXPORT, cwd=tmp_path / "here")
    assert done.returncode == 3, done.stderr
    assert "mine.py removes" in sentence(done)
