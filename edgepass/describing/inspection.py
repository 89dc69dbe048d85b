"""Inspection: what a file holds, for a person."""

from pathlib import Path

from rich.table import Table
from rich.text import Text

from edgepass.judging import files
from edgepass.judging.figures import percent, size
from edgepass.judging.manifest import TensorSpec, Weight
from edgepass.runtimes import Contents, _child


def inspect(file: Path, method: str = "") -> Contents:
    """Read the file, or one of its methods, in a child process.

    Raises InputError for an unknown kind, ArtifactError for a broken file, and for a method that it has not.
    """
    return _child.inspect(files.runtime_of(file), file, method=method)


def methods(file: Path, method: str = "") -> list[str]:
    """The methods that are asked for of a file: the one named, each of one that has several, and "" of any other.

    Raises InputError for a file of no known kind, and ArtifactError for a method that it has not.
    """
    if method:
        return [method]
    held = _child.inspect(files.runtime_of(file), file).methods
    return held if len(held) > 1 else [""]


def tables(file: Path, contents: Contents) -> list[Table]:
    """A summary, the weights, the operations."""
    summary = Table(title=f"{file.name}: {contents.format}", show_header=False)
    rows = [
        *((f"input {t.name}", tensor(t)) for t in contents.inputs),
        *((f"output {t.name}", tensor(t)) for t in contents.outputs),
        *([("methods", ", ".join(contents.methods))] if len(contents.methods) > 1 else []),
        ("file", size(files.size(file, contents.beside))),
        ("planned activations", "-" if contents.planned_bytes is None else size(contents.planned_bytes)),
        ("delegated", "-" if contents.delegated_flops is None else f"{percent(contents.delegated_flops)} of the FLOPs"),
        *(("falls back", f"{f.op}: {f.reason}") for f in contents.fallbacks),
        *(("note", note) for note in contents.notes),
    ]
    for name, value in rows:
        summary.add_row(Text(name), Text(value))
    weights = Table("weight", "shape", "format", "granularity", "zeros", title="weights")
    weights.columns[0].overflow = "fold"
    for w in contents.weights:
        weights.add_row(Text(short(w.name)), shape(w), w.dtype, w.granularity or "-", percent(w.zeros))
    operations = Table("operation", "count", "FLOPs", title="operations")
    for name, count in sorted(contents.ops.items(), key=lambda item: -item[1]):
        flops = contents.flops.get(name)
        operations.add_row(name, str(count), "-" if flops is None else f"{flops:,}")
    return [summary, weights, operations]


def short(name: str) -> str:
    """The name of a weight without the packages of its modules' classes, which LiteRT's converter spells out."""
    if "/" not in name and "<locals>" not in name:
        return name
    return "/".join(part.rpartition(".")[2] for part in name.split("/"))


def tensor(spec: TensorSpec) -> str:
    """Type and shape, a dimension that varies as a question mark."""
    return f"{spec.dtype}[{', '.join('?' if n is None else str(n) for n in spec.shape)}]"


def shape(weight: Weight) -> str:
    """Its dimensions, 48x16."""
    return "x".join(map(str, weight.shape)) or "scalar"


def number_format(dtype: str, granularity: str | None) -> str:
    """Of a weight: int8 per-channel."""
    return f"{dtype} {granularity}" if granularity else dtype
