"""Benchmark: latency and memory of every file on this host, each in a fresh process.

A file that does not run here, or whose runtime is not installed, is a row that says why, and the others are timed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from edgepass.describing import feeding, inspection
from edgepass.errors import (
    ArtifactError,
    DeviceOnlyError,
    EdgepassError,
    InputError,
    MissingExtraError,
    listed,
    together,
)
from edgepass.judging import files, manifest
from edgepass.judging.figures import duration, size
from edgepass.judging.manifest import Latency
from edgepass.runtimes import Array, _child


@dataclass(frozen=True, kw_only=True)
class Row:
    """One file, or a method of one that has several, or why it is not timed."""

    file: str
    method: str = ""
    bytes: int
    peak_bytes: int | None = None
    latency: Latency | None = None
    note: str = ""


def benchmark(
    path: Path, *, runs: int, threads: int = 1, method: str = "", say: Callable[[str], None] = lambda line: None
) -> list[Row]:
    """Time the files of an output folder, or one file, on golden inputs where there are any and on zeros elsewhere.

    method: the only one of a file that is asked for, of those whose files have several; without it each has a row.
    Raises MissingExtraError or ArtifactError and its kin where none of them can be timed.
    """
    rows: list[Row] = []
    errors: list[EdgepassError] = []
    for file, name in _files(path, method):
        say(f"timing {file.name}{name and f' {name}'}")
        try:
            rows.append(_timed(file, name, runs, threads))
        except (ArtifactError, DeviceOnlyError, MissingExtraError) as error:
            errors.append(error)
            rows.append(Row(file=file.name, method=name, bytes=files.size(file), note=str(error)))
    if errors and len(errors) == len(rows):
        raise together(errors)
    return rows


def _timed(file: Path, method: str, runs: int, threads: int) -> Row:
    runtime = files.runtime_of(file)
    calls = _calls(file)
    inputs = _inputs(file, method, runtime, fed=calls is None)
    measured = _child.run(
        runtime,
        file,
        inputs,
        method=method,
        sequence=calls,
        keeps=calls is not None,
        threads=threads,
        latency_runs=runs,
        contents=True,
    )
    assert measured.contents is not None
    return Row(
        file=file.name,
        method=method,
        bytes=files.size(file, measured.contents.beside),
        peak_bytes=measured.peak_bytes,
        latency=measured.latency,
    )


def notes(rows: list[Row]) -> list[str]:
    """A sentence for each file that was not timed."""
    return [f"{_name(row)} is not timed: {row.note}" for row in rows if row.note]


def _name(row: Row) -> str:
    return f"{row.file} {row.method}".rstrip()


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
            view.add_row(Text(_name(row)), size(row.bytes), *("-" * 4), "not timed")
            continue
        figures = [size(row.bytes), size(row.peak_bytes), duration(latency.p50_us), duration(latency.p95_us)]
        view.add_row(Text(_name(row)), *figures, str(latency.runs), latency.evidence)
    threads = max((row.latency.threads for row in rows if row.latency), default=1)
    view.caption = f"on this host, which is no phone; {threads} thread{'s' * (threads != 1)}"
    return view


def _files(path: Path, method: str) -> list[tuple[Path, str]]:
    """Files, each with a method of those that are asked for."""
    if path.is_dir() and path.suffix != ".mlpackage":
        written = [record for record in manifest.read(path).artifacts if record.file]
        asked = [(path / record.file, record.method) for record in written if method in ("", record.method)]
        if not asked and written:
            known = listed(list(dict.fromkeys(record.method for record in written if record.method)))
            raise InputError(f"no file of {path} has a method {method!r}; {known or 'they have one each'}")
        return asked
    try:
        return [(path, name) for name in inspection.methods(path, method)]
    except (ArtifactError, MissingExtraError):  # which timing it will tell
        return [(path, method)]


def _inputs(file: Path, method: str, runtime: str, *, fed: bool) -> list[Array]:
    found = feeding.golden(file, fed=fed, method=method)
    if found is not None:
        return [x[:1] for x in found]
    return feeding.zeros(file, _child.inspect(runtime, file, method=method).inputs)


def _calls(file: Path) -> int | None:
    """Of a file that keeps state, says the manifest beside it, calls that it was judged in a row; None of any other."""
    try:
        made = manifest.read(file.parent)
    except InputError:  # there is none, or another's
        return None
    keeps = any(record.keeps_state for record in made.artifacts if record.file == file.name)
    rows = next((data.rows for data in made.data if data.role == "evaluation"), 1)
    return made.model.sequence or rows if keeps else None
