"""Inspection: what a file holds, for a person."""

from pathlib import Path

from rich.table import Table

from edgepass.judging import files
from edgepass.runtimes import Contents, _child


def inspect(file: Path) -> Contents:
    """Read the file in a child process. Raises InputError for an unknown kind, ArtifactError for a broken one."""
    return _child.inspect(files.runtime_of(file), file)


def tables(file: Path, contents: Contents) -> list[Table]:
    """A summary, the weights, the operations."""
    summary = Table(title=f"{file.name}: {contents.format}", show_header=False)
    rows = [
        *((f"input {t.name}", _tensor(t.shape, t.dtype)) for t in contents.inputs),
        *((f"output {t.name}", _tensor(t.shape, t.dtype)) for t in contents.outputs),
        ("file", f"{files.size(file):,} bytes"),
        ("planned activations", "-" if contents.planned_bytes is None else f"{contents.planned_bytes:,} bytes"),
        ("delegated", "-" if contents.delegated_flops is None else f"{contents.delegated_flops:.1%} of the FLOPs"),
        *(("falls back", f"{f.op}: {f.reason}") for f in contents.fallbacks),
        *(("note", note) for note in contents.notes),
    ]
    for name, value in rows:
        summary.add_row(name, value)
    weights = Table("weight", "shape", "format", "granularity", "zeros", title="weights")
    for w in contents.weights:
        weights.add_row(w.name, "x".join(map(str, w.shape)), w.dtype, w.granularity or "-", f"{w.zeros:.1%}")
    operations = Table("operation", "count", "FLOPs", title="operations")
    for name, count in sorted(contents.ops.items(), key=lambda item: -item[1]):
        flops = contents.flops.get(name)
        operations.add_row(name, str(count), "-" if flops is None else f"{flops:,}")
    return [summary, weights, operations]


def _tensor(shape: tuple[int | None, ...], dtype: str) -> str:
    return f"{dtype}[{', '.join('?' if n is None else str(n) for n in shape)}]"
