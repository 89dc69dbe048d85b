"""Packages, each converted once; and the same numbers for each test."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepass.runtimes.coreml._file import quiet

with quiet():
    import coremltools as ct
from runtime_tests.runtimes.coreml.converted import convert, make
from runtime_tests.runtimes.coreml.operations import BEGINNING, rng


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Converts each model once for each way of converting it."""
    folder = tmp_path_factory.mktemp("packages")

    def package(name: str, precision: str = "FLOAT32", dynamic: bool = False) -> Path:
        path = folder / f"{name}-{precision}-{dynamic}.mlpackage"
        if not path.exists():
            convert(make(name), getattr(ct.precision, precision), dynamic).save(str(path))
        return path

    return package


@pytest.fixture
def whole(packages: Callable[..., Path], tmp_path: Path) -> Path:
    """A package of its own, to be damaged."""
    return Path(shutil.copytree(packages("transformer"), tmp_path / "m.mlpackage"))


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    """Whatever ran before."""
    rng.bit_generator.state = BEGINNING
