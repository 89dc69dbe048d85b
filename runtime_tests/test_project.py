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

ROOT = Path(__file__).parent.parent
# What each room may import, besides itself. Top-level modules of edgepass/ are rooms of their own.
BASE = {"errors", "catalog", "manifest", "parity", "gates"}
ALLOWED = {
    "errors": set[str](),
    "catalog": {"errors"},
    "parity": {"errors"},
    "manifest": {"errors", "parity"},
    "gates": {"errors", "manifest"},
    "runtimes": BASE,
    "parts": {"errors", "catalog"},
    "baking": set[str](),
    "folds": {"parts"},
    "kernels": {"folds"},
    "mixers": {"errors", "parts", "baking", "folds", "kernels"},
    "channel_mixers": {"errors", "parts", "baking"},
    "models": {"errors", "catalog", "parts", "baking", "folds", "kernels", "mixers", "channel_mixers"},
    "staging": {"errors", "manifest"},
    "data": {"errors", "manifest", "staging"},
    "rewrites": {"errors", "catalog"},
    "quantize": BASE,
    "exporters": BASE | {"rewrites", "quantize"},
}


def imports_of(file: Path) -> set[str]:
    """Rooms of edgepass that a file imports at any depth."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            parts = node.module.split(".")
            if parts[0] == "edgepass":
                found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("edgepass.")}
    return found - {"__version__"}


def files_of(room: str) -> list[Path]:
    if room in ("quantize", "exporters"):
        return sorted((ROOT / room).glob("*.py"))
    folder = ROOT / "edgepass" / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_point_one_way(room: str) -> None:
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
