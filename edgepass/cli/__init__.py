"""The command line: formats and exits; decides nothing."""

import sys
from typing import NoReturn

from edgepass.cli import supervised
from edgepass.cli.commands import cli
from edgepass.cli.process import command_line

__all__ = ["cli", "command_line", "main"]


def main() -> NoReturn:
    """Entry point: the command line, in a process of its own."""
    sys.exit(supervised.run(command_line))
