"""Code of the user's file: run with the user's rights, and guarded, so that nothing of what it does lasts."""

import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from edgepass.errors import InputError, first_line


def load_file(path: Path) -> ModuleType:
    """Run the user's file. It is the user's own code, run with the user's rights."""
    if not path.is_file():
        raise InputError(f"no file {path}")
    name = f"_users_{path.stem}"  # a file called onnx.py must not pass for the package
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _users_code(path):
        spec.loader.exec_module(module)
    return module


@contextmanager
def _users_code(path: Path) -> Iterator[None]:
    """Runs code of the user's file, and nothing of what it does lasts but what it gives.

    What the file imports is found beside it and where it adds to sys.path, and modules that were found before still
    are; what it raises, sys.exit() too, is told by its line, a working folder that it changes to is its own while it
    is there, and a process that it forks ends where the file's code does.
    """
    beside, ours, process = str(path.parent.resolve()), os.getcwd(), os.getpid()
    searched, before = sys.path, list(sys.path)
    with suppress(OSError):  # it may be gone, or have become a file
        os.chdir(_PLACES.get(beside, ours))
    searched.insert(0, beside)
    try:
        yield
    except (Exception, SystemExit) as error:
        if os.getpid() == process:
            raise InputError(_blame(error, path)) from None
    finally:
        if os.getpid() != process:
            os._exit(0)
        searched[:] = _kept(getattr(sys, "path", None), before, beside)
        sys.path = searched
        _go_back(path, beside, ours)


def _kept(searched: Any, before: list[str], beside: str) -> list[str]:
    """sys.path as the file leaves it, without the file's own folder, and with what was on it before."""
    found = list(searched) if isinstance(searched, list) else []
    if beside in found:
        found.remove(beside)
    return found + [place for place in before if place not in found]


def _go_back(path: Path, beside: str, ours: str) -> None:
    """Keep the working folder of the file's code for the next time, if it is still there, and leave it."""
    try:
        _PLACES[beside] = os.getcwd()
    except OSError:  # a temporary folder at its end
        _PLACES.pop(beside, None)
    try:
        os.chdir(ours)
    except OSError as error:
        raise InputError(
            f"{path} removes {ours}, the current folder, or closes it ({error.strerror}); take that out, or run "
            "edgepass in another folder"
        ) from None


_PLACES: dict[str, str] = {}
"""The working folder of the user's files, by the folder that they are in, where they changed it."""


def call(module: ModuleType, name: str, model: str) -> Any:
    function: Callable[[], Any] | None = getattr(module, name, None)
    if not callable(function):
        offered = sorted(n for n, v in vars(module).items() if callable(v) and not n.startswith("_"))
        raise InputError(f"{model}: there is no function {name!r} in the file; it has: {', '.join(offered) or 'none'}")
    with _users_code(Path(str(module.__file__))):
        return function()


def samples(module: ModuleType, name: str, model: str, *, several: bool = False) -> Any:
    """What a function of the file gives as data: a list is there, anything else runs the user's code when read.

    several: it is to give a dictionary of such, by the names of methods.
    """
    found = call(module, name, model)
    if several and isinstance(found, Mapping):
        return {key: _guarded(each, module) for key, each in found.items()}
    return _guarded(found, module)


def _guarded(found: Any, module: ModuleType) -> Any:
    if type(found) in (list, tuple) or not isinstance(found, Iterable):
        return found
    return _Samples(found, Path(str(module.__file__)))


class _Samples:
    """A generator, a DataLoader or their kin, guarded: what it raises when it is read is told as of the user's file."""

    def __init__(self, found: Iterable[Any], path: Path) -> None:
        self._found, self._path = found, path

    def __len__(self) -> int:
        """What it says itself; InputError where it has no answer."""
        with _users_code(self._path):
            return len(self._found)  # type: ignore[arg-type] # a TypeError of what has no length is as good

    def __iter__(self) -> Iterator[Any]:
        with _users_code(self._path):
            rest = iter(self._found)
        while True:
            with _users_code(self._path):
                try:
                    sample = next(rest)
                except StopIteration:
                    return
            yield sample


def _blame(error: BaseException, path: Path) -> str:
    """The user's line that raised, and what."""
    frames = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if Path(f.filename) == path.resolve() or f.filename == str(path)
    ]
    if isinstance(error, SyntaxError):
        where = f"{path}:{error.lineno}"
    else:
        where = f"{path}:{frames[-1].lineno}, `{frames[-1].line}`" if frames else str(path)
    return f"{where} raises {type(error).__name__}: {first_line(error)}"
