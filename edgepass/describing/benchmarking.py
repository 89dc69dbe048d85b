"""Benchmark: latency and memory of every file on this host, each in a fresh process.

A file that does not run here, or whose runtime is not installed, is a row that says why, and the others are timed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from edgepass.describing import feeding
from edgepass.errors import (
    ArtifactError,
    DeviceOnlyError,
    EdgepassError,
    InputError,
    MissingExtraError,
    together,
)
from edgepass.judging import files, manifest
from edgepass.judging.figures import duration, size
from edgepass.judging.manifest import Latency
from edgepass.runtimes import Array, _child


@dataclass(frozen=True, kw_only=True)
class Row:
    """One file, or why it is not timed."""

    file: str
    bytes: int
    peak_bytes: int | None = None
    latency: Latency | None = None
    note: str = ""


def benchmark(path: Path, *, runs: int, threads: int = 1, say: Callable[[str], None] = lambda line: None) -> list[Row]:
    """Time the files of an output folder, or one file, on golden inputs where there are any and on zeros elsewhere.

    Raises MissingExtraError or ArtifactError and its kin where none of them can be timed.
    """
    rows: list[Row] = []
    errors: list[EdgepassError] = []
    for file in _files(path):
        say(f"timing {file.name}")
        try:
            rows.append(_timed(file, runs, threads))
        except (ArtifactError, DeviceOnlyError, MissingExtraError) as error:
            errors.append(error)
            rows.append(Row(file=file.name, bytes=files.size(file), note=str(error)))
    if errors and len(errors) == len(rows):
        raise together(errors)
    return rows


def _timed(file: Path, runs: int, threads: int) -> Row:
    runtime = files.runtime_of(file)
    calls = _calls(file)
    inputs = _inputs(file, runtime, fed=calls is None)
    measured = _child.run(
        runtime,
        file,
        inputs,
        sequence=calls,
        keeps=calls is not None,
        threads=threads,
        latency_runs=runs,
        contents=True,
    )
    assert measured.contents is not None
    return Row(
        file=file.name,
        bytes=files.size(file, measured.contents.beside),
        peak_bytes=measured.peak_bytes,
        latency=measured.latency,
    )


def notes(rows: list[Row]) -> list[str]:
    """A sentence for each file that was not timed."""
    return [f"{row.file} is not timed: {row.note}" for row in rows if row.note]


def table(rows: list[Row]) -> Table:
    """One row a file."""
    view = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False, caption_justify="left")
    view.add_column("file", overflow="fold")
    for heading in ("size", "peak", "p50", "p95", "runs"):
        view.add_column(heading, justify="right", no_wrap=True)
    view.add_column("evidence")
    for row in rows:
        latency = row.latency
        if latency is None or row.peak_bytes is None:
            view.add_row(Text(row.file), size(row.bytes), *("-" * 4), "not timed")
            continue
        figures = [size(row.bytes), size(row.peak_bytes), duration(latency.p50_us), duration(latency.p95_us)]
        view.add_row(Text(row.file), *figures, str(latency.runs), latency.evidence)
    threads = max((row.latency.threads for row in rows if row.latency), default=1)
    view.caption = f"on this host, which is no phone; {threads} thread{'s' * (threads != 1)}"
    return view


def _files(path: Path) -> list[Path]:
    if path.is_dir() and path.suffix != ".mlpackage":
        return [path / record.file for record in manifest.read(path).artifacts if record.file]
    return [path]


def _inputs(file: Path, runtime: str, *, fed: bool) -> list[Array]:
    found = feeding.golden(file, fed=fed)
    return feeding.zeros(file, _child.inspect(runtime, file).inputs) if found is None else [x[:1] for x in found]


def _calls(file: Path) -> int | None:
    """Of a file that keeps state, says the manifest beside it, calls that it was judged in a row; None of any other."""
    try:
        made = manifest.read(file.parent)
    except InputError:  # there is none, or another's
        return None
    keeps = any(record.keeps_state for record in made.artifacts if record.file == file.name)
    rows = next((data.rows for data in made.data if data.role == "evaluation"), 1)
    return made.model.sequence or rows if keeps else None
