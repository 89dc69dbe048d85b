"""Two runs into one folder: each leaves it whole, or says why not; what a killed run left goes, never a live one's."""

import errno
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import pytest

from edgepass import staging
from edgepass.errors import InputError

TEXT = """{"verdict": "pass", "model": {"name": "m", "source": "m", "inputs": [], "outputs": [], "parameters": 1},
    "versions": {}, "seed": %d, "gates": {}, "data": [], "artifacts": []}"""

RUN = """
import sys, time
from pathlib import Path
from edgepass import staging
from edgepass.errors import InputError
out, number, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
try:
    with staging.folder(out, overwrite=True) as folder:
        print("begun", flush=True)
        (folder / "manifest.json").write_text(TEXT % number)
        time.sleep(seconds)
except InputError as error:
    print(error, flush=True)
    sys.exit(3)
""".replace("TEXT", repr(TEXT))


def start(out: Path, number: int, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RUN, str(out), str(number), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    with process.stdout:
        return process.stdout.readline().strip()


def test_a_second_run_says_that_another_is_at_work(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = start(out, 1, 5)
    assert line(first) == "begun"
    second = start(out, 2, 0)
    assert line(second) == f"another run is writing {out} now; wait until it has ended, or name another -o"
    assert (second.wait(), first.wait()) == (3, 0)
    assert '"seed": 1' in (out / "manifest.json").read_text()
    assert [f.name for f in tmp_path.iterdir()] == ["out"]


def test_runs_that_begin_together_leave_one_whole_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    runs = [start(out, number, 0.2) for number in range(4)]
    said = [line(run) for run in runs]
    codes = [run.wait() for run in runs]
    assert 0 in codes
    assert all((word == "begun") == (code == 0) or code == 3 for word, code in zip(said, codes, strict=True))
    assert [f.name for f in tmp_path.iterdir()] == ["out"]
    assert [f.name for f in out.iterdir()] == ["manifest.json"]


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path) -> None:
    out = tmp_path / "out"
    killed = start(out, 1, 60)
    assert line(killed) == "begun"
    killed.kill()
    killed.wait()
    assert [f.name for f in tmp_path.iterdir() if f.name.endswith(staging.MARK)]
    (tmp_path / ".out.0000000000000001-1.replaced").mkdir()
    (tmp_path / ".out.mine.partial").mkdir()  # a user's own, however it is called
    with staging.folder(out) as folder:
        (folder / "manifest.json").write_text(TEXT % 2)
    assert sorted(f.name for f in tmp_path.iterdir()) == [".out.mine.partial", "out"]


KILLED = """
import os, sys
from pathlib import Path
from edgepass import staging
replace, calls = os.replace, []

def once(source, target):
    if calls: os._exit(9)
    calls.append(replace(source, target))

os.replace = once
with staging.folder(Path(sys.argv[1]), overwrite=True) as folder:
    (folder / "manifest.json").write_text("new")
"""


@pytest.mark.parametrize("fails", [True, False])
def test_a_folder_that_a_killed_run_had_moved_aside_is_back(tmp_path: Path, fails: bool) -> None:
    out = tmp_path / "out"
    with staging.folder(out) as folder:
        (folder / "manifest.json").write_text(TEXT % 1)
    (tmp_path / ".out.0000000000000001-1.replaced").mkdir()  # of an older run, and not the user's last
    assert subprocess.run([sys.executable, "-c", KILLED, str(out)], check=False).returncode == 9
    assert not out.exists()
    with pytest.raises(InputError, match="out exists; name another -o, or add --overwrite"), staging.folder(out):
        raise AssertionError("it is not worked at all")
    assert '"seed": 1' in (out / "manifest.json").read_text()
    with suppress(ValueError), staging.folder(out, overwrite=True) as folder:
        if fails:
            raise ValueError
        (folder / "manifest.json").write_text(TEXT % 2)
    assert f'"seed": {1 if fails else 2}' in (out / "manifest.json").read_text()
    assert [f.name for f in tmp_path.iterdir()] == ["out"]


def test_a_folder_behind_a_link_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    real, link = tmp_path / "elsewhere" / "real", tmp_path / "link"
    with staging.folder(real) as folder:
        (folder / "manifest.json").write_text(TEXT % 1)
    link.symlink_to(real)
    with staging.folder(link, overwrite=True) as folder:
        (folder / "manifest.json").write_text(TEXT % 2)
    assert link.is_symlink()
    assert '"seed": 2' in (real / "manifest.json").read_text()
    assert sorted(f.name for f in tmp_path.iterdir()) == ["elsewhere", "link"]
    assert [f.name for f in real.parent.iterdir()] == ["real"]


def test_an_old_folder_is_back_when_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with staging.folder(out) as folder:
        (folder / "manifest.json").write_text(TEXT % 1)
    replace = staging.os.replace

    def fails(source: Path, target: Path) -> None:
        if str(source).endswith(staging.MARK):
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(staging.os, "replace", fails)
    with (
        pytest.raises(InputError, match="could not be written: Input/output error"),
        staging.folder(out, overwrite=True) as folder,
    ):
        (folder / "manifest.json").write_text(TEXT % 2)
    assert '"seed": 1' in (out / "manifest.json").read_text()
    assert [f.name for f in tmp_path.iterdir()] == ["out"]


def opens(path: Path | str) -> None:
    with open(path, "rb"):
        pass


@pytest.mark.parametrize("error", [None, OSError(errno.ECONNREFUSED, "Connection refused"), OSError("torn")])
@pytest.mark.parametrize("guard", [staging.folder, staging.explained])
def test_an_error_of_what_is_not_written_is_its_own(
    tmp_path: Path, error: OSError | None, guard: Callable[[Path], AbstractContextManager[object]]
) -> None:
    def fails() -> None:
        if error is not None:
            raise error
        opens(tmp_path / "dataset.bin")

    with pytest.raises(OSError, match=r"dataset|refused|torn"), guard(tmp_path / "out"):
        fails()
    assert not list(tmp_path.iterdir())


def test_an_error_of_what_is_written_is_told_of_it(tmp_path: Path) -> None:
    out = tmp_path / "link" / "out"
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    full = OSError(errno.ENOSPC, "No space left on device", "/elsewhere/of/a/converter")
    with pytest.raises(InputError, match="no room to write"), staging.folder(out):
        raise full
    with pytest.raises(InputError, match="out could not be written: No such file"), staging.folder(out) as folder:
        opens(folder / "torn")
    with pytest.raises(InputError, match="could not be written: No such file"), staging.explained(out):
        opens(out / "torn")
    with pytest.raises(InputError, match="could not be written: No such file"), staging.folder(out) as folder:
        (folder / "a").replace(tmp_path / "none" / "b")
    assert not list((tmp_path / "real").iterdir())


def test_a_file_is_written_under_a_name_of_its_own(tmp_path: Path) -> None:
    (tmp_path / f".a.{time.time_ns():016x}-1.partial").write_bytes(b"of a killed run")
    staging.write(tmp_path / "a", b"whole")
    assert [f.name for f in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_one_run_at_a_time_works_in_a_folder(tmp_path: Path) -> None:
    with staging.alone(tmp_path), pytest.raises(InputError, match="another run is writing"), staging.alone(tmp_path):
        pass
    with staging.alone(tmp_path):
        pass
