"""Staging: outputs are written beside their place and renamed into it, so nothing half-written looks finished."""

import errno
import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgepass.errors import InputError, expect_text, of_writing, one_line
from edgepass.judging import manifest

MARK, REPLACED = ".partial", ".replaced"


@contextmanager
def folder(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A new folder that becomes `out` when the block ends well, and vanishes when it does not.

    Each run writes under a name of its own and holds a lock on it, which ends with the run however it ends: what a
    killed run left is removed by the next one, what a live one writes is not touched. Of a link, the folder that it
    leads to is replaced. Raises InputError when `out` exists and may not be overwritten, when another run is writing
    it, and when the disk is full or not writable; an error of the block that is of something else stays what it is.
    """
    refuse_existing(out, overwrite=overwrite)
    place = Path(os.path.realpath(out))  # ".." would have neither a name nor the right parent
    staged, owner = _beside(place), os.getpid()
    aside, others = staged.with_suffix(REPLACED), None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        staged.mkdir()
        with _held(staged):
            if _sweep(place, staged):
                raise InputError(f"another run is writing {out} now; wait until it has ended, or name another -o")
            try:
                yield staged
            except OSError as error:
                others = None if of_writing(error, staged, place) else error
                raise
            if os.getpid() != owner:
                os._exit(1)  # a fork of the user's code came back out of it; the folder is the other's
            refuse_existing(out, overwrite=overwrite)  # again: the work took minutes
            _replace(staged, place, aside)
    except OSError as error:
        if error is others:
            raise
        raise InputError(explain(error, out)) from None
    finally:
        if os.getpid() == owner:
            shutil.rmtree(staged, ignore_errors=True)


def _replace(staged: Path, place: Path, aside: Path) -> None:
    if not place.exists():
        os.replace(staged, place)
        return
    with _held(place):  # a run that begins now would bring it back
        os.replace(place, aside)
        try:
            os.replace(staged, place)
        except OSError:
            os.replace(aside, place)
            raise
        os.replace(aside, staged)  # where it is removed, and what is left of it is not taken for a whole folder


def write(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut."""
    part = _beside(path)
    try:
        with part.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            _sweep(path, part)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nothing else that asks the same works in the folder meanwhile. Raises InputError when something does."""
    try:
        with _held(folder):
            yield
    except BlockingIOError:
        raise InputError(f"another run is writing {folder} now; wait until it has ended, or name another -o") from None


def _beside(path: Path) -> Path:
    """A name for what becomes `path`, that no other run has; the earliest comes first."""
    return path.with_name(f".{path.name}.{time.time_ns():016x}-{os.getpid()}{MARK}")


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """The lock on a file or folder, which the system takes back when this process ends; BlockingIOError when held."""
    file = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(file)


def _sweep(path: Path, mine: Path) -> bool:
    """Remove what killed runs left beside `path`; whether a live one, begun before `mine`, is at work there."""
    live = False
    for found in _left(path, MARK, REPLACED):
        if found == mine or (found.suffix == REPLACED and not os.path.lexists(path)):
            continue
        try:
            with _held(found):
                remove(found)
        except BlockingIOError:
            live = live or found.name < mine.name
        except OSError:  # another run was quicker to remove it, or it is another user's
            continue
    return live


def _left(path: Path, *endings: str) -> list[Path]:
    """What runs have beside `path` under such a name, the earliest first."""
    ours = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{16}}-\d+({'|'.join(map(re.escape, endings))})")
    return sorted(f for f in path.parent.iterdir() if ours.fullmatch(f.name))


def _bring_back(path: Path) -> None:
    """Put a folder where it was that a killed run had moved aside, and for which nothing has come: it is the last."""
    with suppress(OSError):  # a live run holds it while it replaces; it is another user's; there is no such place
        aside = [] if os.path.lexists(path) else _left(path, REPLACED)
        for found in aside[-1:]:
            with _held(found):
                os.rename(found, path)


def refuse_existing(out: Path, *, overwrite: bool) -> None:
    """Raise InputError when `out` is there already: nothing of the user's is lost unasked.

    Only what an export wrote can be overwritten: a folder with a manifest, and nothing beside it that is not ours.
    One that a killed run had moved aside is put back first.
    """
    expect_text(out, "name another -o")
    _bring_back(Path(os.path.realpath(out)))
    if not os.path.lexists(out):
        return
    if not out.is_dir():
        raise InputError(f"{out} exists and is no folder; name another -o")
    held = {f.name for f in out.iterdir()}
    if out.is_mount() or out.resolve() == Path.cwd():
        raise InputError(f"{out} is a mount point or the current folder, which cannot be replaced; name a new -o")
    if not held:
        return
    written = manifest.read(out).artifacts if manifest.FILE in held else []
    others = manifest.strangers(out, {name for record in written for name in (record.file, *record.beside)})
    if others or manifest.FILE not in held:
        what = ", ".join(map(one_line, others[:3])) or f"no {manifest.FILE}"
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
def explained(out: Path, advice: str = "name another -o") -> Iterator[None]:
    """A failed write to `out` is an InputError; an error of something else stays what it is."""
    try:
        yield
    except OSError as error:
        if not of_writing(error, out):
            raise
        raise InputError(explain(error, out, advice)) from None


def explain(error: OSError, out: Path, advice: str = "name another -o") -> str:
    """One sentence for a failed write; `advice` is what to do otherwise than to make it possible.

    Converters write their own temporary files and seldom say where, so the place with less room is named.
    """
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            temporary = Path(tempfile.gettempdir())
            if _free(temporary) < _free(out):
                out, advice = temporary, "name another with TMPDIR"
            return f"no room to write {out}: {_free(out) // 2**20} MB are free there; make room or {advice}"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return f"{out} may not be written: {error.strerror}; {advice}"
        case errno.ENOTDIR | errno.EEXIST:
            return f"{out} cannot be a folder: part of that path is a file; name another -o"
        case _:
            return f"{out} could not be written: {error.strerror or error}"


def _free(path: Path) -> int:
    """Bytes of room where `path` is, or will be."""
    return shutil.disk_usage(next(p for p in (path, *path.absolute().parents) if p.exists())).free
