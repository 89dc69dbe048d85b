"""A command in a process of its own, so that nothing that a user's file does can make a run look finished.

    shell ── this process ──fork──▶ the command: loads the user's file, exports, judges, prints
                 ▲                        │
                 └── the exit code, through a pipe, when it has really come to its end

os._exit(0), os.execv and their kin end the command without a word in the pipe, which is told and is no success. The
command ends with this process, however that goes; signals are passed on, and native code that hears none is killed:
GRACE seconds after SIGTERM, or at the second Ctrl-C.
"""

import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

import click

from edgepass.errors import BAD_INPUT

GRACE = 10.0
"""Seconds that the command has to clean up when it is asked to stop, or this process is gone."""

CRASHES = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGTRAP)


def run(command: Callable[[], int]) -> int:
    """The exit code of `command`, which is carried out in a child."""
    sys.stdout.flush()
    sys.stderr.flush()
    said, saying = os.pipe()
    alive, living = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(said)
        os.close(living)
        _carry_out(command, saying, alive)
    os.close(saying)
    os.close(alive)

    asked: list[int] = []

    def kill(number: int, frame: FrameType | None) -> None:
        os.kill(child, signal.SIGKILL)

    def pass_on(number: int, frame: FrameType | None) -> None:
        if number in asked:
            kill(number, frame)
        asked.append(number)
        os.kill(child, number)
        if number == signal.SIGTERM:
            signal.setitimer(signal.ITIMER_REAL, GRACE)

    signal.signal(signal.SIGALRM, kill)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    _, status = os.waitpid(child, 0)
    os.set_blocking(said, False)  # what the command has forked may hold the other end
    try:
        code = os.read(said, 1)
    except BlockingIOError:
        code = b""
    if code:
        return code[0]
    ended = os.waitstatus_to_exitcode(status)
    allowed = resource.getrlimit(resource.RLIMIT_AS)[0]
    if -ended in CRASHES and allowed != resource.RLIM_INFINITY:
        click.echo(
            f"edgepass: the run crashed with {signal.Signals(-ended).name}, as native code does without memory, and "
            f"this shell allows {allowed / 2**30:.3g} GiB; nothing was finished: allow more (ulimit -v unlimited)",
            err=True,
        )
        return BAD_INPUT
    if ended < 0:
        click.echo(f"edgepass: the run was ended by {signal.Signals(-ended).name}; nothing was finished", err=True)
        return 128 - ended
    click.echo(
        f"edgepass: the run was ended by code that it called, with exit code {ended} and before it was done, as "
        "os._exit in a model's file does; nothing was finished: take that call out",
        err=True,
    )
    return ended or BAD_INPUT


def _carry_out(command: Callable[[], int], saying: int, alive: int) -> NoReturn:
    owner = os.getpid()
    threading.Thread(target=_end_with_parent, args=(alive,), daemon=True).start()
    code = command()
    if os.getpid() != owner:
        os._exit(code)  # a fork of the user's code came back out of it; the run is the other's
    sys.stdout.flush()
    os.dup2(2, 1)  # what is printed at the interpreter's end is no part of the result
    os.write(saying, bytes([code]))
    sys.exit(code)


def _end_with_parent(alive: int) -> None:
    """Wait for the end of the pipe, which comes when the parent is gone; then stop as if asked to."""
    while os.read(alive, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)
