"""What is installed: one package, whole, from a wheel and from a source distribution."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from runtime_tests.conftest import ROOT

pytest.importorskip("setuptools", minversion="77", reason="pip install 'setuptools>=77', the build backend")


def build(kind: str, source: Path, out: Path) -> Path:
    """Call the build backend's hook `kind` in `source`, as pip does, in a process of its own."""
    code = f"import setuptools.build_meta as b; print(b.{kind}({str(out)!r}))"
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=source, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that git tracks, so that building leaves no trace in the tree."""
    folder = tmp_path_factory.mktemp("copy")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file() and not (ROOT / name).is_symlink():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def wheel(copy: Path, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    with zipfile.ZipFile(build("build_wheel", copy, tmp_path_factory.mktemp("wheel"))) as archive:
        return set(archive.namelist())


def test_the_wheel_has_one_top_level_package(wheel: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"edgepass"}


def test_the_wheel_has_every_module_and_every_data_file(wheel: set[str], copy: Path) -> None:
    wanted = set()
    for folder, prefix in (
        ("edgepass", "edgepass"),
        ("quantize", "edgepass/quantize"),
        ("exporters", "edgepass/exporters"),
    ):
        for file in (copy / folder).rglob("*"):
            if file.suffix in (".py", ".toml", ".j2", ".css", ".typed"):
                wanted.add(f"{prefix}/{file.relative_to(copy / folder).as_posix()}")
    assert wanted <= wheel, sorted(wanted - wheel)


def test_a_source_distribution_builds_the_same_wheel(copy: Path, wheel: set[str], tmp_path: Path) -> None:
    with tarfile.open(build("build_sdist", copy, tmp_path)) as archive:
        safely: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # which Debian's 3.11.2 lacks
        archive.extractall(tmp_path / "sdist", **safely)
    (source,) = (tmp_path / "sdist").iterdir()
    with zipfile.ZipFile(build("build_wheel", source, tmp_path)) as again:
        assert set(again.namelist()) == wheel


def test_no_extra_is_needed_for_the_help(tmp_path: Path) -> None:
    blocked = "import sys\nfor n in ('torch','executorch','coremltools','litert_torch','onnx'): sys.modules[n] = None\n"
    code = blocked + "sys.argv = ['edgepass', '--help']\nfrom edgepass.cli import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Commands:" in done.stdout
