"""Files, written once."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from edgepass.runtimes import Contents, _child
from runtime_tests.conftest import ROOT, once
from runtime_tests.runtimes import written
from runtime_tests.runtimes.written import inspect, run


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "files", write)


def write(folder: Path) -> None:
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", written.__name__, folder],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="session")
def samples() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((7, 1, 3, 13)).astype(np.float32)


@pytest.fixture(scope="session")
def reference(files: Path, samples: np.ndarray) -> _child.Measurement:
    return run(files / "float.pt2", [samples])


@pytest.fixture(scope="session")
def contents(files: Path) -> Callable[[str], Contents]:
    """What a file holds, read once."""
    return cache(lambda name: inspect(files / name))
