"""The command line: formats and exits; decides nothing.

Imports stay inside the commands, so that `edgepass --help` waits for nothing.
"""

import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.exceptions import Exit

from edgepass import __version__
from edgepass.cli import interrupts, supervised
from edgepass.cli.units import CHANGE, RATIO_DB, SHARE, SIZE, TIME
from edgepass.errors import BAD_INPUT, GATE_FAILED, INTERNAL, INTERRUPTED, NOT_EVALUATED, OK, EdgepassError

if TYPE_CHECKING:
    from edgepass.judging.gates import Gates
    from edgepass.judging.manifest import Manifest

Command = Callable[..., None]
EXIT_OF = {"pass": OK, "fail": GATE_FAILED, "not-evaluated": NOT_EVALUATED}
MODEL_HELP = "MODEL is a preset, a RUN/ folder, a .pt2 file, or file.py:get_model; MODEL@2 is a stack cut after pass 2."


def _alone(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
    """What the user's code and converters print goes to stderr from now on; the result is printed last."""
    if value:
        context.meta[REDIRECTED] = context.with_resource(_on_stderr())
    return value


@contextmanager
def _on_stderr() -> Iterator[ExitStack]:
    """Standard output, of Python and of native code, leads to stderr until the stack is closed."""
    with ExitStack() as stack:
        sys.stdout.flush()
        kept = os.dup(1)
        stack.callback(os.close, kept)
        os.dup2(2, 1)
        stack.callback(os.dup2, kept, 1)
        stack.enter_context(redirect_stdout(sys.stderr))
        yield stack


REDIRECTED = "edgepass.redirected"
as_json = click.option(
    "--json", "as_json", is_flag=True, callback=_alone, help="Print the result as JSON, and nothing else, on stdout."
)
threads = click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 64), help="Of each runtime.")
overwrite = click.option("--overwrite", is_flag=True, help="Replace the output folder if it exists.")


def output(text: str) -> Callable[[Command], Command]:
    """-o, for a folder."""
    return click.option("-o", "--output", required=True, type=click.Path(path_type=Path, file_okay=False), help=text)


def bounds(command: Command) -> Command:
    """The gates, as options."""
    for flag, kind, text in (
        ("--min-delegated", SHARE, "Least share of the FLOPs in an accelerated backend, e.g. 95%."),
        ("--max-latency", TIME, "Longest median inference on this host, e.g. 2ms."),
        ("--max-peak-memory", SIZE, "Most memory that loading and running may add, e.g. 8MB."),
        ("--max-size", SIZE, "Largest file, e.g. 300KB."),
        ("--min-agreement", SHARE, "Least share of integer outputs that are those of float32, e.g. 95%."),
        ("--min-sqnr", RATIO_DB, "Least signal to quantisation noise ratio against float32, e.g. 20dB."),
        ("--max-metric-drop", CHANGE, "Most that the task metric may worsen against float32, e.g. 1%."),
    ):
        command = click.option(flag, type=kind, help=text)(command)
    return click.option(
        "--confident", is_flag=True, help="Hold --max-metric-drop at the bad end of the drop's 95% interval."
    )(command)


def data(command: Command) -> Command:
    """Where calibration and evaluation data come from, and the metric that they are scored by."""
    for flag, text in (
        ("--eval-data", "What files are judged on: .npz, .safetensors, .csv or file.py:function."),
        ("--calibration-data", "What static int8 gets its ranges from; the same kinds."),
    ):
        command = click.option(flag, metavar="F", help=text)(command)
    command = click.option(
        "--higher-is-better/--lower-is-better", default=None, help="Of a metric that does not say so itself."
    )(command)
    command = click.option(
        "--metric",
        metavar="NAME",
        help="See `edgepass list metrics`; or file.py:get_metric. [default: told by the data]",
    )(command)
    most = click.option(
        "--eval-samples", type=click.IntRange(1), help="At most that many, spread evenly. [default: all]"
    )
    few = click.option("--calibration-samples", type=click.IntRange(1), default=256, show_default=True)
    return most(few(command))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="edgepass")
def cli() -> None:
    """Export a PyTorch model to phones, and prove that each file is as accurate, small and light as asked.

    Exit codes: 0 ok, 1 internal error, 2 a gate failed, 3 usage or bad input, 4 something is not installed,
    5 a gate could not be evaluated.
    """


@cli.command()
@click.argument("csv", type=click.Path(path_type=Path))
@output("The RUN/ folder to write.")
@click.option("--horizon", required=True, type=click.IntRange(1), help="Rows to forecast.")
@click.option("--lookback", default=336, show_default=True, type=click.IntRange(1), help="Rows to forecast from.")
@click.option("--time-column", help="[default: found by its name or its values]")
@click.option("--columns", help="Comma-separated. [default: all numeric ones]")
@click.option("--preset", default="single-s", show_default=True, help="See `edgepass list presets`.")
@click.option("--passes", type=click.IntRange(1), help="So many of a stack's passes. [default: the preset's]")
@click.option("--split", default="70/10/20", show_default=True, help="Train/validation/test shares, or ett.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**32 - 1))
@click.option("--epochs", type=click.IntRange(0), help="At most. [default: the trainer's]")
@overwrite
@as_json
def fit(csv: Path, output: Path, columns: str | None, epochs: int | None, as_json: bool, **settings: Any) -> None:
    """Train a forecaster on a CSV. The same command continues a fit that was killed."""
    from edgepass import staging
    from edgepass.cli import terminal
    from edgepass.series.fit import EPOCHS
    from edgepass.series.fit import fit as train

    names = [name.strip() for name in columns.split(",")] if columns else None
    with terminal.epochs(silent=as_json) as progress, staging.explained(output):
        result = train(
            csv, out=output, columns=names, epochs=EPOCHS if epochs is None else epochs, progress=progress, **settings
        )
    if as_json:
        _print_json(result)
    else:
        _print_fit(result)


@cli.command(epilog=MODEL_HELP)
@click.argument("model")
@output("The folder to write.")
@click.option("--target", "targets", multiple=True, help="Repeatable. [default: executorch, coreml, tflite]")
@click.option("--recipe", "recipes", multiple=True, help="Repeatable. [default: static_wi8_ai8]")
@data
@click.option(
    "--passes",
    type=click.IntRange(1),
    help="Cut a stack after so many passes; one depth an export, so that a host chooses among several -o.",
)
@click.option("--max-batch", type=click.IntRange(2), help="Let the first dimension vary from 1 to this.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**32 - 1), help="Of synthetic data.")
@bounds
@threads
@overwrite
@as_json
def export(
    model: str,
    output: Path,
    targets: tuple[str, ...],
    recipes: tuple[str, ...],
    passes: int | None,
    max_batch: int | None,
    threads: int,
    overwrite: bool,
    as_json: bool,
    **rest: Any,
) -> None:
    """Write MODEL for each target, run each written file, and judge it."""
    from edgepass import pipeline, staging
    from edgepass.cli import terminal

    plan = pipeline.Plan.of(targets, recipes, max_batch)
    staging.refuse_existing(output, overwrite=overwrite)
    gates = _gates(rest)
    model = model if passes is None else f"{model}@{passes}"
    with terminal.Steps(silent=as_json) as steps:
        steps.say(f"loading {model}")
        task = _task(model, rest)
        result = pipeline.export(task, plan, output, gates, threads=threads, overwrite=overwrite, say=steps.say)
    _finish(result, output, as_json=as_json)


@cli.command(epilog=MODEL_HELP)
@click.argument("path", type=click.Path(path_type=Path), metavar="OUT/|FILE")
@click.option(
    "--reference", metavar="MODEL", help="The float model to judge by. [default: the one that OUT/ was made from]"
)
@click.option("--trust", is_flag=True, help="Run the Python file that OUT/ says it was made from.")
@click.option("--recipe", help="What FILE claims to be made by; its default gates and its audit then hold.")
@data
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**32 - 1), help="Of synthetic data.")
@bounds
@threads
@as_json
def validate(
    path: Path, reference: str | None, trust: bool, recipe: str | None, threads: int, as_json: bool, **rest: Any
) -> None:
    """Judge the files in OUT/ again, or one file that another tool made. Writes nothing."""
    from edgepass import validation
    from edgepass.cli import terminal

    with terminal.Steps(silent=as_json) as steps:
        result = validation.validate(
            path,
            load=lambda model: _task(model, rest),
            reference=reference,
            recipe=recipe,
            metric=rest["metric"],
            bounds=_gates(rest),
            threads=threads,
            trust=trust,
            say=steps.say,
        )
    _finish(result, None, as_json=as_json)


@cli.command()
@click.argument("path", type=click.Path(path_type=Path), metavar="OUT/|FILE")
@click.option("--runs", default=200, show_default=True, type=click.IntRange(1))
@threads
@as_json
def benchmark(path: Path, runs: int, threads: int, as_json: bool) -> None:
    """Time every file on this host, in a process of its own. A host's latency is not a phone's."""
    from edgepass.cli import terminal
    from edgepass.describing import benchmarking

    with terminal.Steps(silent=as_json) as steps:
        rows = benchmarking.benchmark(path, runs=runs, threads=threads, say=steps.say)
    if as_json:
        _print_json(rows)
    else:
        terminal.console.print(benchmarking.table(rows))


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@as_json
def inspect(file: Path, as_json: bool) -> None:
    """Show what a file holds: inputs, outputs, weights and their number formats, operations, planned memory."""
    from edgepass.cli import terminal
    from edgepass.describing import inspection

    contents = inspection.inspect(file)
    if as_json:
        _print_json(contents)
    else:
        for part in inspection.tables(file, contents):
            terminal.console.print(part)


@cli.command()
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT/")
@click.option(
    "--key", required=True, type=click.Path(path_type=Path), help="Your private key, PEM or OpenSSH, Ed25519."
)
def sign(out: Path, key: Path) -> None:
    """Write OUT/signature.json, which says under your key what every file in OUT/ is, byte for byte."""
    from edgepass.judging import manifest, signing

    made = signing.sign(out, key, _passphrase)
    click.echo(f"{len(made.files)} files signed: {out / manifest.SIGNATURE}")


@cli.command()
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT/")
@click.option("--key", type=click.Path(path_type=Path), help="The signer's public key, from elsewhere than OUT/.")
@as_json
def verify(out: Path, key: Path | None, as_json: bool) -> None:
    """Check that OUT/ holds every file as it was signed, no other, and with --key whose signature it is.

    Exit code 2 when a file was changed, added or removed or the key is another; 5 when the files are as signed and no
    --key says by whom.
    """
    from edgepass.judging import signing

    found = signing.verify(out, key, _passphrase)
    if as_json:
        _print_json(found)
    else:
        for fault in found.faults:
            click.echo(f"{out}: {fault}")
        if not found.faults:
            whose = "" if found.known else "; whose key that is was not asked: give --key"
            click.echo(f"{out}: {found.files} files are as signed with {found.key}{whose}")
    raise Exit(GATE_FAILED if found.faults else OK if found.known else NOT_EVALUATED)


def _passphrase() -> str:
    return str(click.prompt("passphrase of the key", hide_input=True, err=True))


@cli.command()
@click.argument("out", type=click.Path(path_type=Path))
def report(out: Path) -> None:
    """Write OUT/report.html again from the manifest and the golden samples."""
    from edgepass import staging
    from edgepass.report import page

    with staging.explained(out):
        path = page.write(out)
    click.echo(str(path))


@cli.command(epilog=MODEL_HELP)
@click.argument("model")
@click.option("--lookback", type=click.IntRange(1), help="Rows that a preset forecasts from. [default: 336]")
@click.option("--horizon", type=click.IntRange(1), help="Rows that a preset forecasts. [default: 96]")
@click.option("--channels", type=click.IntRange(1), help="Columns that a preset forecasts. [default: 1]")
@as_json
def describe(model: str, as_json: bool, **sizes: int | None) -> None:
    """Show what each pass of MODEL costs, and how far its tokens reach, in one call with its example arguments.

    \b
    MACs         multiply-accumulates of matrix products and convolutions
    activations  the tensors that a part makes, as many as are alive at once when torch runs it, attention written
                 out; a runtime may plan them tighter
    reach        the most input tokens that one output token depends on, of how many, and the span that they lie in
                 along each axis; from derivatives of a copy in which no weight is zero
    full         the share of the MACs that make or apply an attention map between all tokens of the stack's input

    A weight that is shared counts once, its MACs every time.
    """
    from edgepass import source
    from edgepass.cli import terminal
    from edgepass.describing import description

    found = description.describe(source.bare(model, **{name: n for name, n in sizes.items() if n is not None}))
    if as_json:
        _print_json(found)
    else:
        terminal.console.print(description.table(model, found))


@cli.command("list")
@click.argument("kind")
@as_json
def list_(kind: str, as_json: bool) -> None:
    """Show what is on offer, each with what it is.

    KIND is a kind of part of a Passformer (embeddings, encodings, mixers, channel_mixers, merges, topologies, heads),
    or examples, metrics, presets, recipes, rewrites, runtimes or targets.
    """
    from edgepass import catalog

    offers = [{"name": name, "summary": catalog.summary(kind, name)} for name in catalog.names(kind)]
    if as_json:
        _print_json(offers)
    else:
        width = max(len(offer["name"]) for offer in offers)
        click.echo("\n".join(f"{offer['name']:<{width}}  {offer['summary']}".rstrip() for offer in offers))


@cli.command()
@as_json
def doctor(as_json: bool) -> None:
    """Import every target's packages and run a one-operation export through each."""
    from edgepass import doctor as probes
    from edgepass.cli import terminal
    from edgepass.errors import NOT_INSTALLED

    found = probes.check()
    if as_json:
        _print_json(found)
    else:
        terminal.console.print(probes.table(found))
    raise Exit(OK if all(probe.ok for probe in found) else NOT_INSTALLED)


@cli.command()
@click.option("-o", "--output", default="demo-out", show_default=True, type=click.Path(path_type=Path, file_okay=False))
@as_json
def demo(output: Path, as_json: bool) -> None:
    """Fit half-hourly electricity demand, export int8 and fp16 to all three formats, and judge every file."""
    from edgepass import staging
    from edgepass.cli import terminal
    from edgepass.series import demo as story

    bar, line = terminal.epochs(silent=as_json), terminal.Steps(silent=as_json)
    with staging.explained(output), bar as progress, line as steps:
        fitted, result = story.run(output, progress=progress, say=steps.say)
    if not as_json:
        _print_fit(fitted)
    _finish(result, output / story.OUT, as_json=as_json)


def main() -> NoReturn:
    """Entry point: the command line, in a process of its own."""
    sys.exit(supervised.run(command_line))


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
        click.echo(
            f"edgepass: internal error, {type(error).__name__}: {error}; "
            "please report it with the traceback that EDGEPASS_TRACEBACK=1 shows",
            err=True,
        )
        return INTERNAL


def _stopped() -> int:
    click.echo("edgepass: stopped; nothing that looks finished was left; the same command starts again", err=True)
    return INTERRUPTED


def _task(model: str, options: dict[str, Any]) -> Any:
    from edgepass import source

    return source.load(
        model,
        calibration=options["calibration_data"],
        evaluation=options["eval_data"],
        calibration_samples=options["calibration_samples"],
        evaluation_samples=options["eval_samples"],
        seed=options["seed"],
        metric=options["metric"],
        higher_is_better=options["higher_is_better"],
    )


def _gates(options: dict[str, Any]) -> "Gates":
    from dataclasses import fields

    from edgepass.judging.gates import Gates

    return Gates(**{f.name: options[f.name] for f in fields(Gates) if f.name in options})


def _finish(result: "Manifest", folder: Path | None, *, as_json: bool) -> None:
    """Print the verdict and exit with its code."""
    from edgepass.cli import terminal
    from edgepass.judging.manifest import REPORT
    from edgepass.report import summary

    if as_json:
        _print_json(result)
    else:
        terminal.console.print(summary.table(result))
        for line in summary.lines(result, f"{shlex.quote(str(folder))}/" if folder else "OUT/"):
            terminal.console.print(line, markup=False)
        if folder is not None:
            click.echo(f"report: {folder / REPORT}")
    raise Exit(EXIT_OF[result.verdict])


def _print_fit(result: Any) -> None:
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


def _print_json(value: Any) -> None:
    import msgspec

    text = msgspec.json.encode(value, enc_hook=str)
    click.get_current_context().meta[REDIRECTED].close()
    click.echo(msgspec.json.format(text, indent=2).decode())
