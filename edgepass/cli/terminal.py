"""What a person sees while work goes on: a bar or a spinner on a terminal, one line per step anywhere else."""

import atexit
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from edgepass.cli import interrupts

WIDTH = 110  # columns of a log or a pipe

# Converters are silenced by taking file descriptors 1 and 2 away; what we say goes through a copy of the second.
_ERRORS: TextIO = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
atexit.register(_ERRORS.close)
progress_console = Console(file=_ERRORS, soft_wrap=True, highlight=False)
console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)


class Steps:
    """Says what is being done."""

    def __init__(self, *, silent: bool = False) -> None:
        self._silent = silent
        self._status = progress_console.status("") if progress_console.is_terminal and not silent else None

    def __enter__(self) -> "Steps":
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def say(self, line: str) -> None:
        """The next step; KeyboardInterrupt when the user asked to stop during the last one."""
        interrupts.check()
        if self._status:
            self._status.update(line)
        elif not self._silent:
            progress_console.print(line, markup=False)


@contextmanager
def epochs(*, silent: bool = False) -> Iterator["Epochs"]:
    """A progress callback for `fit`."""
    if silent or not progress_console.is_terminal:
        yield Epochs(None, silent=silent)
        return
    columns = (
        TextColumn("epoch"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=progress_console) as bar:
        yield Epochs(bar, silent=False)


class Epochs:
    """Called after each epoch with its number, their number, training and validation loss."""

    def __init__(self, bar: Progress | None, *, silent: bool) -> None:
        self._bar, self._silent = bar, silent
        self._task = bar.add_task("", total=None) if bar else None

    def __call__(self, epoch: int, total: int, train: float, validation: float) -> None:
        text = f"train {train:.4f}  validation {validation:.4f}"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=epoch, total=total, description=text)
        elif not self._silent:
            progress_console.print(f"epoch {epoch}/{total}  {text}", markup=False)
