"""The files of an artifact: what runs them, how large they are, and what they hold as a hash."""

import hashlib
from pathlib import Path

from edgepass import catalog, runtimes
from edgepass.errors import InputError


def runtime_of(path: Path) -> str:
    """Name of the runtime for a file, by its ending. Raises InputError."""
    known = {runtimes.runtime(name).suffix: name for name in catalog.names("runtimes")}
    if path.suffix not in known:
        raise InputError(f"{path} is of no kind that is known here; there is: {', '.join(sorted(known))}")
    if not path.exists():
        raise InputError(f"no file {path}")
    return known[path.suffix]


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a package."""
    return sum(f.stat().st_size for f in _files(path))


def sha256(path: Path) -> str:
    """Of a file's bytes, or of the names and bytes of a package's files."""
    digest = hashlib.sha256()
    for file in _files(path):
        if path.is_dir():
            digest.update(file.relative_to(path).as_posix().encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    return sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
