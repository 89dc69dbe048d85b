"""Resident memory of this process, what it holds now and the most it held since a reset, and what is free here."""

import ctypes
import gc
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STATUS, _HOST = Path("/proc/self/status"), Path("/proc/meminfo")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5): sets the peak resident set size to the current one


def settle() -> int:
    """Give free heap back, forget the peak so far, and return the bytes resident now.

    Linux reads VmRSS of /proc/self/status. Elsewhere the peak cannot be reset: the value is the peak so far
    (ru_maxrss), so a difference misses what fits under it.
    """
    gc.collect()
    if not _STATUS.exists():
        return peak()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl does not
    if trim is not None:
        trim(0)
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
    except OSError:  # some containers forbid it; then, too, only what exceeds the peak so far is seen
        return peak()
    return _status("VmRSS")


def peak() -> int:
    """The most bytes resident at once since `settle`."""
    if _STATUS.exists():
        return _status("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, KiB on the BSDs
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def available() -> int:
    """Bytes that this process may still take without swapping: what the host has free, and no more than its limits."""
    free = _read(_HOST, "MemAvailable") if _HOST.exists() else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for kind, key in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        limit = resource.getrlimit(kind)[0]
        if limit != resource.RLIM_INFINITY and _STATUS.exists():
            free = min(free, max(0, limit - _status(key)))
    return free


@contextmanager
def bounded() -> Iterator[None]:
    """What runs inside may take what is free here and no more: a MemoryError, where the system would end processes.

    For torch running what a stranger wrote, and never for a converter, of which some do not hear that there is none.
    Linux only: RLIMIT_DATA counts private writable pages there, and is not enforced elsewhere. What the heap was given
    before, and has free, may be had beside it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if not _STATUS.exists():
        yield
        return
    most = _status("VmData") + available()
    resource.setrlimit(resource.RLIMIT_DATA, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _status(key: str) -> int:
    return _read(_STATUS, key)


def _read(file: Path, key: str) -> int:
    for line in file.read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{file} has no {key}")
