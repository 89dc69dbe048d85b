"""What every test shares: seeds, uninitialised memory that is NaN, and the command line called in this process."""

import contextlib
import gc
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

# No deadline: a first call imports or compiles, and machines are noisy besides. `make test-all` takes the second.
settings.register_profile("edgepass", deadline=None, max_examples=100)
settings.register_profile("thorough", deadline=None, max_examples=200)
settings.load_profile("edgepass")
# Lowering makes millions of objects that live as long as their graph, and Python looks for garbage among them all.
gc.set_threshold(5000, 20, 50)

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"
CONVERTERS_WARN = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",  # of each other
    "ignore::FutureWarning",
    "ignore::UserWarning",
    "ignore::ResourceWarning",  # coremltools leaves its temporary folder to the collector
)
"""For a test that converts, or a module of them: the one list of warnings that are not about the file."""


@dataclass(frozen=True)
class Done:
    """What a command left: exit code, standard output and error."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one line of complaint; fails when there are more, or a traceback."""
        assert "Traceback" not in self.err, self.err
        lines = [line for line in self.err.splitlines() if line.startswith(("edgepass: ", "Error: "))]
        assert len(lines) == 1, self.err
        return lines[0]


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that every worker of pytest-xdist reads, made by whichever needs it first."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            making = Path(tempfile.mkdtemp(dir=folder.parent))
            make(making)
            making.rename(folder)
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that export come first: a worker that is left with a long one at the end would be waited for."""
    exporting = {item.path for item in items if item.get_closest_marker("export")}
    items.sort(key=lambda item: item.path not in exporting)


@pytest.fixture(autouse=True, scope="module")
def _settled() -> None:
    """What earlier modules left alive, converters above all, is not searched for garbage again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def _uninitialised_is_nan() -> Iterator[None]:
    """torch.empty gives NaN, so that what forgets to write an element fails."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.utils.deterministic.fill_uninitialized_memory
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = before


@pytest.fixture
def edgepass(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Call `edgepass ARGS` as the entry point would, in this process."""
    from edgepass import cli

    def call(*args: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["edgepass", *map(str, args)])
        out, err = io.StringIO(), io.StringIO()
        code = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = cli.command_line()
            except SystemExit as stop:
                code = int(stop.code or 0)
        return Done(code, out.getvalue(), err.getvalue())

    return call
