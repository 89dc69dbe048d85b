"""From sys.argv to an exit code: every error becomes one sentence."""

import logging
import os
import select
import sys

import click

from edgepass.cli import interrupts
from edgepass.cli.commands import cli
from edgepass.errors import BAD_INPUT, DISK, INTERNAL, INTERRUPTED, NO_MEMORY, OK, EdgepassError


def command_line() -> int:
    """The exit code of the command that sys.argv holds; every error becomes one sentence."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # converters' own progress bars
    for noisy in ("torchao", "torch.utils._pytree"):  # on import they warn of kernels for other machines
        logging.getLogger(noisy).setLevel(logging.ERROR)
    interrupts.install()
    try:
        code = cli.main(standalone_mode=False) or OK
        try:
            sys.stdout.flush()  # here, where it is told when there is no room
        except BrokenPipeError:
            _discard_output()
        return code
    except click.exceptions.NoArgsIsHelpError as usage:
        click.echo(usage.format_message())
        return BAD_INPUT
    except click.ClickException as error:
        error.show()
        return BAD_INPUT
    except (KeyboardInterrupt, click.Abort):
        return _stopped()
    except EdgepassError as error:
        if interrupts.seen():
            return _stopped()
        if os.environ.get("EDGEPASS_TRACEBACK"):
            raise
        click.echo(f"edgepass: {error}", err=True)
        return error.exit_code
    except BrokenPipeError:
        return _discard_output()
    except SystemExit as stop:
        if _unread(stop):
            return _discard_output()
        # Ours are click's Exit, so this is the user's code, in a place where nobody minds it.
        click.echo(
            f"edgepass: the model's code calls sys.exit({stop.code!r}), which would end the run before it is done; "
            "take that call out",
            err=True,
        )
        return BAD_INPUT
    except Exception as error:
        if interrupts.seen():
            return _stopped()
        if os.environ.get("EDGEPASS_TRACEBACK"):
            raise
        if isinstance(error, OSError) and error.errno in DISK:
            _discard_output()
            click.echo(f"edgepass: the output could not be written: {error.strerror}; send it elsewhere", err=True)
            return BAD_INPUT
        # torch's is a RuntimeError, a loader's another.
        if isinstance(error, MemoryError) or NO_MEMORY.search(str(error)):
            click.echo(
                "edgepass: there is not enough memory for this; free some, allow more (ulimit -v), or make the model "
                "or its samples smaller",
                err=True,
            )
            return BAD_INPUT
        click.echo(
            f"edgepass: internal error, {type(error).__name__}: {error}; "
            "please report it with the traceback that EDGEPASS_TRACEBACK=1 shows",
            err=True,
        )
        return INTERNAL


def _unread(stop: SystemExit) -> bool:
    """Whether whoever was given the output has enough of it, as `head` does, of which click and rich make a failure.

    rich says so by what its own exit came of; click by nothing, but leaves the pipe open.
    """
    pipe = select.poll()
    pipe.register(1, 0)
    broken = any(event & (select.POLLERR | select.POLLHUP) for _, event in pipe.poll(0))
    return broken or isinstance(stop.__context__, BrokenPipeError)


def _discard_output() -> int:
    """What is left is not written; the interpreter would complain of it when it flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return OK


def _stopped() -> int:
    click.echo("edgepass: stopped; nothing that looks finished was left; the same command starts again", err=True)
    return INTERRUPTED
