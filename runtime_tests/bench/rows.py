"""Rows that are measured a few to a process and kept, a file each: a long run is gone on with where it was stopped."""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec

BATCH = 6
"""Rows to a process, which imports the converters once."""
Only = tuple[str, str]
"""The target and the recipe of the one cell of each row that is asked for."""


class Cell(Protocol):
    """One file."""

    @property
    def target(self) -> str: ...
    @property
    def recipe(self) -> str: ...


class Measured(Protocol):
    """One row."""

    @property
    def date(self) -> str: ...
    @property
    def versions(self) -> Mapping[str, str]: ...


C = TypeVar("C", bound=Cell)
R = TypeVar("R", bound=msgspec.Struct)


class Kept(Generic[R]):
    """The rows in a folder."""

    def __init__(self, folder: Path, kind: type[R]) -> None:
        self.folder, self.kind = folder, kind

    def read(self) -> dict[str, R]:
        """All of them, by name."""
        return {file.stem: msgspec.json.decode(file.read_bytes(), type=self.kind) for file in self._files()}

    def write(self, name: str, row: R) -> None:
        """Keep a row in the place of its last."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(row), indent=1) + b"\n")

    def forget_all_but(self, names: Sequence[str]) -> None:
        """Take away what is of nothing any more."""
        for file in self._files():
            if file.stem not in names:
                file.unlink()

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.json"))


def told(rows: Iterable[Measured]) -> dict[str, list[str]]:
    """When they were measured and with what, for their page."""
    known = list(rows)
    return {
        "dates": sorted({row.date for row in known}),
        "versions": sorted({f"{name} {version}" for row in known for name, version in row.versions.items()}),
    }


def with_cell(cells: Sequence[C], cell: C) -> tuple[C, ...]:
    """The cells of a row with this one in the place of its last."""
    asked = cell.target, cell.recipe
    return tuple(cell if (each.target, each.recipe) == asked else each for each in cells)


def those(cells: Sequence[C], only: Only | None) -> list[C]:
    """The cells that are asked for."""
    return [cell for cell in cells if only in (None, (cell.target, cell.recipe))]


def measured(
    module: str, names: Sequence[str], *, jobs: int, seconds: int, only: Only | None, ray: bool = False
) -> Iterator[str]:
    """What `python -m runtime_tests.bench.MODULE --here NAMES` prints, in `jobs` processes at a time.

    With `ray` they are tasks of a core each on the Ray cluster of RAY_ADDRESS, else on one of this machine's cores;
    all machines of a cluster share this folder.
    """
    batches = [names[i : i + BATCH] for i in range(0, len(names), BATCH)]
    run = partial(_in_a_process, module, seconds, only)
    if not ray:
        with ThreadPoolExecutor(jobs) as pool:
            yield from pool.map(run, batches)
        return
    from ray.util.multiprocessing import Pool

    with Pool(jobs) as actors:
        yield from actors.imap(run, batches, chunksize=1)


def _in_a_process(module: str, seconds: int, only: Only | None, names: Sequence[str]) -> str:
    command = [sys.executable, "-m", f"{__package__}.{module}", "--here", *names, *(("--only", *only) if only else ())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds * len(names), env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        return f"{' '.join(names)}: took more than {seconds * len(names)} s"
    died = "" if done.returncode == 0 else f"{' '.join(names)}: exit {done.returncode}\n{done.stderr[-2000:]}"
    return (done.stdout + died).rstrip()
