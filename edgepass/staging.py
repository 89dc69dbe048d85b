"""Staging: outputs are written beside their place and renamed into it, so nothing half-written looks finished."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgepass.errors import InputError

MARK = ".partial"


@contextmanager
def folder(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A new folder that becomes `out` when the block ends well, and vanishes when it does not.

    What a killed run left behind, `.NAME.partial`, is removed by the next one. Raises InputError when `out` exists and
    may not be overwritten, and when the disk is full or not writable.
    """
    refuse_existing(out, overwrite=overwrite)
    staged = out.parent / f".{out.name}{MARK}"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        yield staged
        if out.exists():
            shutil.rmtree(out)
        os.replace(staged, out)
    except OSError as error:
        raise InputError(explain(error, out)) from None
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def refuse_existing(out: Path, *, overwrite: bool) -> None:
    """Raise InputError when `out` is there already: nothing of the user's is lost unasked."""
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() and not (overwrite and out.is_dir()):
        advice = "it is a file" if out.is_file() else "name another -o, or add --overwrite"
        raise InputError(f"{out} exists; {advice}")


def remove(path: Path) -> None:
    """A file, or a package with all that is in it; nothing when it is not there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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
