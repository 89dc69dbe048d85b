"""What can go wrong, and the exit code of each.

EdgepassError                 exit 1   a fault of edgepass itself
├── InputError                exit 3   what the user gave cannot be used; the message says what can
│   ├── UnknownNameError               a preset, recipe, target … that does not exist; names the nearest
│   ├── CaptureError                   torch.export cannot capture the model; names the user's line
│   ├── RefusedError                   a target cannot do what the recipe asks; names the nearest recipe
│   ├── ArtifactError                  a file that cannot be judged: its runtime needs more, or lacks something
│   │   └── DamagedError               one that is corrupt, or that crashes its runtime
│   ├── DeviceOnlyError                a file that nothing on this host can run; names what it needs
│   └── UnloadableError                an optional dependency is there, and the system does not load it
└── MissingExtraError         exit 4   an optional dependency is absent; names the pip line

Every message is one sentence for a person: what was asked, what is allowed, what to do next.
"""

import errno
import os
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

OK, INTERNAL, GATE_FAILED, BAD_INPUT, NOT_INSTALLED, NOT_EVALUATED = range(6)
INTERRUPTED = 130  # 128 + SIGINT, as shells report it
NO_MEMORY = re.compile(
    r"bad_alloc|memoryerror|(can'?t|cannot|failed to|could not) allocate|out of memory|failed to map segment",
    re.IGNORECASE,
)
"""Said by allocators and loaders of several languages where memory, or the address space, has come to its end."""

DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE}
"""What is told of the place that is written to, whatever was written: converters seldom say where they do."""
_UNWRITABLE = re.compile("[\ud800-\udfff]")
"""What Python holds for bytes of a name that are not UTF-8."""


class EdgepassError(Exception):
    """Base of every error that edgepass raises on purpose."""

    exit_code = INTERNAL


class InputError(EdgepassError):
    """What the user gave cannot be used."""

    exit_code = BAD_INPUT


class UnknownNameError(InputError):
    """A name that is not on offer; `aliases` are other names of what is."""

    def __init__(self, kind: str, name: str, known: Iterable[str], aliases: Iterable[str] = ()) -> None:
        known = sorted(known)
        near = get_close_matches(name, known, 1, 0.5) or get_close_matches(name, list(aliases), 1, 0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        super().__init__(f"no {kind} {name!r}; {hint}there is: {', '.join(known)}")


class CaptureError(InputError):
    """torch.export could not capture the model."""


class RefusedError(InputError):
    """A target cannot do what a recipe asks."""


class ArtifactError(InputError):
    """A file that cannot be read, or that its runtime cannot survive."""


class DamagedError(ArtifactError):
    """A file that is no good as it is. `fact` leaves out the advice, which is none for a file just written."""

    def __init__(self, fact: str) -> None:
        self.fact = fact
        super().__init__(f"{fact}; it is corrupt, incomplete or of another version: copy it again, or export it again")


class DeviceOnlyError(InputError):
    """A file that runs on a device only, and not on this host."""


class UnloadableError(InputError):
    """An optional dependency that is installed and does not load."""


class MissingExtraError(EdgepassError):
    """An optional dependency is not installed. `what` joins several with "and", `extra` with commas."""

    exit_code = NOT_INSTALLED

    def __init__(self, what: str, extra: str) -> None:
        self.what, self.extra = what, extra
        verb = "are" if " and " in what else "is"
        super().__init__(f"{what} {verb} not installed: pip install 'edgepass[{extra}]'")


ABSENT = (MissingExtraError, UnloadableError)
"""What one target cannot be had for on this host, and another may."""


def together(errors: Sequence[EdgepassError]) -> EdgepassError:
    """One error for several: all that is not installed with one pip line, or else the first."""
    missing = [error for error in errors if isinstance(error, MissingExtraError)]
    if not missing:
        return errors[0]
    whats, extras = (dict.fromkeys(found) for found in ((e.what for e in missing), (e.extra for e in missing)))
    return MissingExtraError(" and ".join(whats), ",".join(extras))


def listed(names: Sequence[str], most: int = 3) -> str:
    """The names in a sentence: the first of them, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def not_imported(error: ImportError, what: str, extra: str) -> EdgepassError:
    """Why an optional dependency cannot be had: it is absent, or it is there and the system does not load it."""
    if isinstance(error, ModuleNotFoundError):
        return MissingExtraError(what, extra)
    return UnloadableError(
        f"{what} cannot be loaded: {one_line(first_line(error))}; allow more memory (ulimit -v) where it speaks of "
        f"that, else install it again: pip install --force-reinstall 'edgepass[{extra}]'"
    )


def of_writing(error: OSError, *places: Path) -> bool:
    """Whether an error is of the disk, or names a file in one of these places, or a folder that one would be in."""
    if error.errno in DISK:
        return True
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    named = [Path(os.path.realpath(name)) for name in names]
    ours = [Path(os.path.realpath(place)) for place in places]
    return any(file.is_relative_to(place) or place.is_relative_to(file) for file in named for place in ours)


def first_line(error: BaseException) -> str:
    """The first line of an error's message that says something; the error's kind when there is none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def is_text(name: str) -> bool:
    """Whether it can be written in UTF-8, as JSON is; names of files need not."""
    return not _UNWRITABLE.search(name)


def expect_text(path: Path, advice: str) -> None:
    """Raise InputError where the whole name of `path` is not UTF-8: converters and runtimes take it as text."""
    if not is_text(whole := str(path.absolute())):
        raise InputError(f"{one_line(whole)} has a name that is not UTF-8, and no converter can take it; {advice}")


def one_line(text: str, most: int = 200) -> str:
    """The text on one line of at most `most` characters, to stand inside a sentence that can be written in UTF-8."""
    text = _UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", text)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= most else text[: most - 1] + "…"
