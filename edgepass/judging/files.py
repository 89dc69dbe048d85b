"""The files of an artifact: what runs them, how large they are, and what they hold as a hash."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from edgepass import catalog, runtimes
from edgepass.errors import InputError, expect_text


def runtime_of(path: Path) -> str:
    """Name of the runtime for a file, by its ending. Raises InputError."""
    expect_text(path, "move the file, or rename what is not")
    known = {runtimes.runtime(name).suffix: name for name in catalog.names("runtimes")}
    if path.suffix not in known:
        raise InputError(f"{path} is of no kind that is known here; there is: {', '.join(sorted(known))}")
    if not path.exists():
        raise InputError(f"no file {path}")
    return known[path.suffix]


def size(path: Path, beside: Sequence[str] = ()) -> int:
    """Bytes of a file with the files `beside` it that belong to it, or of all files in a package."""
    return sum(f.stat().st_size for _, f in _files(path, beside))


def sha256(path: Path, beside: Sequence[str] = ()) -> str:
    """Of a file's bytes; where a model is several files, or a package, of their names too."""
    digest = hashlib.sha256()
    for name, file in _files(path, beside):
        digest.update(os.fsencode(name))
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _files(path: Path, beside: Sequence[str]) -> list[tuple[str, Path]]:
    """Every file of a model with the name that its hash covers: none for that of the model itself."""
    if path.is_dir():
        return [(f.relative_to(path).as_posix(), f) for f in sorted(path.rglob("*")) if f.is_file()]
    return [("", path), *((name, path.resolve().parent / name) for name in sorted(beside))]
