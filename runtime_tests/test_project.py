"""The project itself: imports point one way, packages are listed, and nothing loads torch before it must."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import edgepass
from edgepass import catalog
from edgepass.errors import UnknownNameError
from runtime_tests.conftest import ROOT

# What each room may import, besides itself: a folder, a module, or a module of a folder that has a level of its own.
BASE = {"errors", "catalog", "judging.manifest", "judging.parity", "judging.figures", "judging.gates"}
ALLOWED = {
    "errors": set[str](),
    "catalog": {"errors"},
    "structure": set[str](),
    "calling": {"errors", "structure"},
    "ranges": {"errors", "judging.manifest"},
    "judging.parity": {"errors"},
    "judging.figures": {"judging.parity"},
    "judging.manifest": {"errors", "judging.parity", "judging.figures"},
    "judging.gates": {"errors", "judging.manifest", "judging.figures", "judging.parity"},
    "judging.files": {"errors", "catalog", "runtimes"},
    "runtimes": BASE,
    "arrays": {"errors", "runtimes"},
    "models.parts": {"errors", "catalog"},
    "models.folds": {"models.parts"},
    "kernels": {"models.folds"},
    "models": {"errors", "catalog", "kernels", "models.parts", "models.folds"},
    "staging": {"errors", "judging.manifest"},
    "judging.signing": {"errors", "staging", "judging.manifest"},
    "rewrites": {"errors", "catalog"},
    "quantize": BASE,
    "exporters": BASE | {"rewrites", "quantize", "state", "structure"},
    "judging.metrics": {"errors", "runtimes"},
    "judging.score": {"errors", "catalog", "runtimes", "judging.manifest", "judging.metrics"},
    "state": {"structure"},
    "methods": {"errors"},
    "samples": {"errors", "structure", "calling", "judging.manifest", "runtimes"},
    "task": {"errors", "samples", "judging.manifest", "judging.score", "runtimes", "calling", "state"},
    "judging": BASE | {"arrays", "judging.files", "runtimes", "quantize", "samples", "task"}
    | {"judging.metrics", "judging.score"},
    "report": {"errors", "staging", "judging.manifest", "judging.parity", "judging.figures"},
    "describing": BASE | {"runtimes", "models", "models.parts", "judging.files", "report", "samples", "task"}
    | {"arrays", "quantize"},
    "plan": BASE | {"quantize", "exporters"},
    "subject": BASE | {"runtimes", "quantize", "exporters", "judging", "samples", "task"},
    "pipeline": BASE
    | {"plan", "subject", "methods"}
    | {"runtimes", "quantize", "exporters", "judging", "judging.files", "judging.score", "report", "staging", "task"}
    | {"calling", "ranges", "samples"},
}  # fmt: skip


def room_of(dotted: str) -> str:
    """The innermost room that a module below edgepass is in."""
    parts = dotted.split(".")
    inner = ".".join(parts[:2])
    return inner if inner in ALLOWED else parts[0]


def imports_of(file: Path) -> set[str]:
    """Rooms of edgepass that a file imports at any depth."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            if node.module.split(".")[0] == "edgepass":
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.startswith("edgepass.")}
    return {room_of(name.removeprefix("edgepass.")) for name in found} - {"__version__"}


def files_of(room: str) -> list[Path]:
    if room in ("quantize", "exporters"):
        return sorted((ROOT / room).rglob("*.py"))
    place = ROOT / "edgepass" / room.replace(".", "/")
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    dotted = {file: ".".join(file.relative_to(ROOT / "edgepass").with_suffix("").parts) for file in files}
    return [file for file in files if room_of(dotted[file].removesuffix(".__init__")) == room]


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_point_one_way(room: str) -> None:
    assert files_of(room)
    for file in files_of(room):
        assert imports_of(file) <= ALLOWED[room] | {room}, file


def test_mapped_folders_use_absolute_imports() -> None:
    for file in [*files_of("quantize"), *files_of("exporters")]:
        relative = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.ImportFrom) and n.level]
        assert not relative, f"{file}: a relative import makes a second copy of the module"


def test_every_package_is_listed() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = set()
    for base, name in ((ROOT / "edgepass", "edgepass"), (ROOT / "quantize", None), (ROOT / "exporters", None)):
        for init in base.rglob("__init__.py"):
            dotted = ".".join(init.parent.relative_to(ROOT).parts)
            found.add(dotted if name else f"edgepass.{dotted}")
    assert listed == found


def test_public_names_are_all_there_and_lazy() -> None:
    assert sorted(edgepass.__all__) == ["Gates", "Manifest", "__version__", "build"]
    for name in edgepass.__all__:
        assert getattr(edgepass, name)
    with pytest.raises(AttributeError, match="no attribute 'bild'"):
        _ = edgepass.bild


@pytest.mark.parametrize("code", ["import edgepass", "import edgepass.cli; edgepass.cli.cli.get_help(None)"])
def test_import_and_help_load_no_torch(code: str) -> None:
    code = code.replace(
        "edgepass.cli.cli.get_help(None)",
        "from click.testing import CliRunner as R; assert not R().invoke(edgepass.cli.cli, ['--help']).exit_code",
    )
    heavy = "torch,numpy,pandas,matplotlib,coremltools,executorch"
    check = f"{code}\nimport sys\nloaded = set('{heavy}'.split(',')) & set(sys.modules)\nassert not loaded, loaded"
    done = subprocess.run([sys.executable, "-W", "error", "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_is_met_with_the_nearest() -> None:
    with pytest.raises(
        UnknownNameError, match=r"did you mean 'tflite'.*there is: coreml, executorch, executorch:coreml, "
    ):
        catalog.load("targets", "tflight")
    with pytest.raises(UnknownNameError, match="no kind 'mixer'; did you mean 'mixers'"):
        catalog.names("mixer")


def test_what_a_folder_lists_is_on_offer() -> None:
    targets = ["coreml", "executorch", "executorch:coreml", "executorch:vulkan", "onnx", "tflite"]
    assert catalog.names("targets") == targets
    assert "local_attention" in catalog.names("mixers")
    for kind in (*catalog.MODULES, *catalog.DATA):
        assert all(not name.startswith("_") for name in catalog.names(kind))
