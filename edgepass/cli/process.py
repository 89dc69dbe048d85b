"""From sys.argv to an exit code: every error becomes one sentence."""

import logging
import os

import click

from edgepass.cli import interrupts
from edgepass.cli.commands import cli
from edgepass.errors import BAD_INPUT, INTERNAL, INTERRUPTED, NO_MEMORY, OK, EdgepassError


def command_line() -> int:
    """The exit code of the command that sys.argv holds; every error becomes one sentence."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # converters' own progress bars
    for noisy in ("torchao", "torch.utils._pytree"):  # on import they warn of kernels for other machines
        logging.getLogger(noisy).setLevel(logging.ERROR)
    interrupts.install()
    try:
        return cli.main(standalone_mode=False) or OK
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
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter complains when it flushes at its end
        return OK
    except SystemExit as stop:  # ours are click's Exit, so this is the user's code, in a place where nobody minds it
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


def _stopped() -> int:
    click.echo("edgepass: stopped; nothing that looks finished was left; the same command starts again", err=True)
    return INTERRUPTED
