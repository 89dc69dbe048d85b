"""What commands print when they are done."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.exceptions import Exit

from edgepass.cli.options import REDIRECTED
from edgepass.errors import GATE_FAILED, NOT_EVALUATED, OK

if TYPE_CHECKING:
    from edgepass.judging.manifest import Manifest

EXIT_OF = {"pass": OK, "fail": GATE_FAILED, "not-evaluated": NOT_EVALUATED}


def finish(result: "Manifest", folder: Path | None, *, as_json: bool) -> None:
    """Print the verdict and exit with its code."""
    from edgepass.cli import terminal
    from edgepass.judging.manifest import REPORT
    from edgepass.report import summary

    try:
        if as_json:
            json(result)
        else:
            terminal.console.print(summary.table(result))
            for line in summary.lines(result, f"{shlex.quote(str(folder))}/" if folder else "OUT/"):
                terminal.console.print(line, markup=False)
            if folder is not None:
                click.echo(f"report: {folder / REPORT}")
    except (BrokenPipeError, SystemExit):  # rich makes the second of the first
        pass  # who reads has enough; the verdict stands
    raise Exit(EXIT_OF[result.verdict])


def fitted(result: Any) -> None:
    from rich.table import Table

    from edgepass.cli import terminal

    view = Table(title=f"test error in scaled units, {result.parameters:,} parameters")
    view.add_column("model")
    view.add_column("MSE", justify="right")
    view.add_column("MAE", justify="right")
    for row in result.rows:
        view.add_row(row.name, f"{row.mse:.4f}", f"{row.mae:.4f}")
    terminal.console.print(view)
    if result.levels:
        kept = Table(title=f"{result.rows[-1].name}'s levels on test")
        for heading in ("level", "share below it", "pinball loss"):
            kept.add_column(heading, justify="right")
        for level in result.levels:
            kept.add_row(f"{level.level:g}", f"{level.coverage:.3f}", f"{level.pinball:.4f}")
        terminal.console.print(kept)
    for note in result.notes:
        terminal.console.print(note, markup=False)
    click.echo(f"run: {result.folder}")


def json(value: Any) -> None:
    import msgspec

    text = msgspec.json.encode(value, enc_hook=str)
    click.get_current_context().meta[REDIRECTED].close()
    click.echo(msgspec.json.format(text, indent=2).decode())
