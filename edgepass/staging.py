"""Staging: outputs are written beside their place and renamed into it, so nothing half-written looks finished."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgepass.errors import InputError
from edgepass.judging import manifest

MARK = ".partial"


@contextmanager
def folder(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A new folder that becomes `out` when the block ends well, and vanishes when it does not.

    What a killed run left behind, `.NAME.partial`, is removed by the next one. Raises InputError when `out` exists and
    may not be overwritten, and when the disk is full or not writable.
    """
    refuse_existing(out, overwrite=overwrite)
    out = out.absolute()  # ".." would have neither a name nor the right parent
    staged = out.parent / f".{out.name}{MARK}"
    aside = out.parent / f".{out.name}.replaced"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        yield staged
        refuse_existing(out, overwrite=overwrite)  # again: the work took minutes
        if out.exists():
            shutil.rmtree(aside, ignore_errors=True)
            os.replace(out, aside)
        os.replace(staged, out)
        shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise InputError(explain(error, out)) from None
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def write(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut."""
    part = path.with_name(f".{path.name}{MARK}")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def refuse_existing(out: Path, *, overwrite: bool) -> None:
    """Raise InputError when `out` is there already: nothing of the user's is lost unasked.

    Only what an export wrote can be overwritten: a folder with a manifest, and nothing beside it that is not ours.
    """
    if not os.path.lexists(out):
        return
    if not out.is_dir():
        raise InputError(f"{out} exists and is no folder; name another -o")
    held = {f.name for f in out.iterdir()}
    if out.is_mount() or out.resolve() == Path.cwd():
        raise InputError(f"{out} is a mount point or the current folder, which cannot be replaced; name a new -o")
    if not held:
        return
    ours = {manifest.FILE, manifest.GOLDEN, manifest.REPORT, ".DS_Store"}
    if manifest.FILE in held:
        ours |= {record.file for record in manifest.read(out).artifacts}
    others = sorted(held - ours)
    if others or manifest.FILE not in held:
        what = ", ".join(others[:3]) or f"no {manifest.FILE}"
        raise InputError(f"{out} exists and is not an export's alone: it holds {what}; name another -o")
    if not overwrite:
        raise InputError(f"{out} exists; name another -o, or add --overwrite")


def remove(path: Path) -> None:
    """A file, or a package with all that is in it; nothing when it is not there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def explained(out: Path) -> Iterator[None]:
    """A failed write to `out` is an InputError."""
    try:
        yield
    except OSError as error:
        raise InputError(explain(error, out)) from None


def explain(error: OSError, out: Path) -> str:
    """One sentence for a failed write."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            free = shutil.disk_usage(next(p for p in (out, *out.parents) if p.exists())).free
            return f"no room to write {out}: {free // 2**20} MB are free there; make room or name another -o"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return f"{out} may not be written: {error.strerror}; name another -o"
        case errno.ENOTDIR | errno.EEXIST:
            return f"{out} cannot be a folder: part of that path is a file; name another -o"
        case _:
            return f"{out} could not be written: {error.strerror or error}"
