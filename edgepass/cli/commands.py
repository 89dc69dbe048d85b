"""Every command: what it takes, which room does the work, and how its result is shown.

Imports stay inside the commands, so that `edgepass --help` waits for nothing.
"""

from pathlib import Path
from typing import Any

import click
from click.exceptions import Exit

from edgepass import __version__
from edgepass.cli import options, printing
from edgepass.cli.units import RATIO_DB
from edgepass.errors import GATE_FAILED, NOT_EVALUATED, OK

MODEL_HELP = "MODEL is a preset, a RUN/ folder, a .pt2 file, or file.py:get_model; MODEL@2 is a stack cut after pass 2."


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="edgepass")
def cli() -> None:
    """Export a PyTorch model to phones, and prove that each file is as accurate, small and light as asked.

    Exit codes: 0 ok, 1 internal error, 2 a gate failed, 3 usage or bad input, 4 something is not installed,
    5 a gate could not be evaluated.
    """


@cli.command()
@click.argument("csv", type=click.Path(path_type=Path))
@options.output("The RUN/ folder to write.")
@click.option("--horizon", required=True, type=click.IntRange(1), help="Rows to forecast.")
@click.option("--lookback", default=336, show_default=True, type=click.IntRange(1), help="Rows to forecast from.")
@click.option("--time-column", help="[default: found by its name or its values]")
@click.option("--columns", help="Comma-separated. [default: all numeric ones]")
@click.option("--preset", default="single-s", show_default=True, help="See `edgepass list presets`.")
@click.option("--passes", type=click.IntRange(1), help="So many of a stack's passes. [default: the preset's]")
@click.option("--split", default="70/10/20", show_default=True, help="Train/validation/test shares, or ett.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**32 - 1))
@click.option("--epochs", type=click.IntRange(0), help="At most. [default: the trainer's]")
@options.overwrite
@options.as_json
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
        printing.json(result)
    else:
        printing.fitted(result)


@cli.command(epilog=MODEL_HELP)
@click.argument("model")
@options.output("The folder to write.")
@click.option("--target", "targets", multiple=True, help="Repeatable. [default: executorch, coreml, tflite]")
@click.option("--recipe", "recipes", multiple=True, help="Repeatable. [default: static_wi8_ai8]")
@options.data
@click.option(
    "--passes",
    type=click.IntRange(1),
    help="Cut a stack after so many passes; one depth an export, so that a host chooses among several -o.",
)
@click.option(
    "--max-batch",
    type=click.IntRange(2),
    help="Let the first dimension vary from 1 to this; files are judged at both ends and between.",
)
@options.dynamic
@click.option("--keep-state", is_flag=True, help="Let files that can keep what the model changes in its buffers.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**32 - 1), help="Of synthetic data.")
@options.bounds
@options.threads
@options.overwrite
@options.as_json
def export(
    model: str,
    output: Path,
    targets: tuple[str, ...],
    recipes: tuple[str, ...],
    passes: int | None,
    max_batch: int | None,
    dynamic: tuple[str, ...],
    keep_state: bool,
    threads: int,
    overwrite: bool,
    as_json: bool,
    **rest: Any,
) -> None:
    """Write MODEL for each target, run each written file, and judge it."""
    from edgepass import pipeline, ranges, staging
    from edgepass.cli import terminal
    from edgepass.plan import Plan

    plan = Plan.of(targets, recipes, max_batch, [ranges.read(text) for text in dynamic], keep_state=keep_state)
    staging.refuse_existing(output, overwrite=overwrite)
    gates = options.gates(rest)
    model = model if passes is None else f"{model}@{passes}"
    with terminal.Steps(silent=as_json) as steps:
        steps.say(f"loading {model}")
        task = options.task(model, rest, steps.say)
        result = pipeline.export(task, plan, output, gates, threads=threads, overwrite=overwrite, say=steps.say)
    printing.finish(result, output, as_json=as_json)


@cli.command(epilog=MODEL_HELP)
@click.argument("path", type=click.Path(path_type=Path), metavar="OUT/|FILE")
@click.option(
    "--reference", metavar="MODEL", help="The float model to judge by. [default: the one that OUT/ was made from]"
)
@click.option("--trust", is_flag=True, help="Run the Python file that OUT/ says it was made from.")
@click.option("--recipe", help="What FILE claims to be made by; its default gates and its audit then hold.")
@options.method
@click.option(
    "--max-batch",
    type=click.IntRange(2),
    help="The largest first dimension that FILE takes. [default: what OUT/ was made with]",
)
@options.dynamic
@options.data
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**32 - 1), help="Of synthetic data.")
@options.bounds
@options.threads
@options.as_json
def validate(
    path: Path,
    reference: str | None,
    trust: bool,
    recipe: str | None,
    method: str,
    max_batch: int | None,
    dynamic: tuple[str, ...],
    threads: int,
    as_json: bool,
    **rest: Any,
) -> None:
    """Judge the files in OUT/ again, or one file that another tool made. Writes nothing."""
    from edgepass import ranges, validation
    from edgepass.cli import terminal

    with terminal.Steps(silent=as_json) as steps:
        result = validation.validate(
            path,
            load=lambda model, before: options.task(model, rest, steps.say, before),
            reference=reference,
            recipe=recipe,
            method=method,
            metric=rest["metric"],
            bounds=options.gates(rest),
            threads=threads,
            max_batch=max_batch,
            dynamic=[ranges.read(text) for text in dynamic],
            trust=trust,
            say=steps.say,
        )
    printing.finish(result, None, as_json=as_json)


@cli.command()
@click.argument("path", type=click.Path(path_type=Path), metavar="OUT/|FILE")
@click.option("--runs", default=200, show_default=True, type=click.IntRange(1))
@options.one_method
@options.threads
@options.as_json
def benchmark(path: Path, runs: int, method: str, threads: int, as_json: bool) -> None:
    """Time every file on this host, in a process of its own. A host's latency is not a phone's."""
    from edgepass.cli import terminal
    from edgepass.describing import benchmarking

    with terminal.Steps(silent=as_json) as steps:
        rows = benchmarking.benchmark(path, runs=runs, threads=threads, method=method, say=steps.say)
    if as_json:
        printing.json(rows)
    else:
        terminal.console.print(benchmarking.table(rows))
        for note in benchmarking.notes(rows):
            terminal.console.print(note, markup=False)
    raise Exit(NOT_EVALUATED if benchmarking.notes(rows) else OK)


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@options.method
@options.as_json
def inspect(file: Path, method: str, as_json: bool) -> None:
    """Show what a file holds: inputs, outputs, weights and their number formats, operations, planned memory."""
    from edgepass.cli import terminal
    from edgepass.describing import inspection

    contents = inspection.inspect(file, method)
    if as_json:
        printing.json(contents)
    else:
        for part in inspection.tables(file, contents):
            terminal.console.print(part)


@cli.command()
@click.argument("path", type=click.Path(path_type=Path), metavar="OUT/|FILE")
@click.option("--recipe", help="What each weight should be. [default: what the manifest beside it was asked for]")
@options.one_method
@options.as_json
def audit(path: Path, recipe: str | None, method: str, as_json: bool) -> None:
    """Show in which number format each weight of a file really is, beside the one that was asked for.

    Read from the file's bytes: no model is loaded and nothing is run. Exit code 2 when a weight is in another format,
    5 when nothing was asked for. For example: edgepass audit net.tflite --recipe int8
    """
    from edgepass.cli import terminal
    from edgepass.describing import auditing
    from edgepass.judging.gates import worst

    found = auditing.audits(path, recipe, method)
    if as_json:
        printing.json(found)
    else:
        for one in found:
            terminal.console.print(auditing.table(one))
            for line in auditing.lines(one):
                terminal.console.print(line, markup=False)
    raise Exit(printing.EXIT_OF[worst([one.verdict for one in found])])


@cli.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="F",
    help="What both are run on: .npz or .safetensors, an array [samples, ...] for each input. [default: the golden "
    "samples beside A, else noise]",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**32 - 1), help="Of the noise.")
@click.option("--min-sqnr", type=RATIO_DB, help="Least centred SQNR of B's outputs against A's, e.g. 20dB.")
@options.method
@options.threads
@options.as_json
def diff(
    a: Path,
    b: Path,
    data: Path | None,
    seed: int,
    min_sqnr: float | None,
    method: str,
    threads: int,
    as_json: bool,
) -> None:
    """Show what two files of any formats have in common and what not: interface, weights, operations, outputs.

    With --min-sqnr, exit code 2 when the outputs are further apart, 5 when they cannot be compared. For example:
    edgepass diff net.fp16.pte net.static_wi8_ai8.tflite
    """
    from edgepass.cli import terminal
    from edgepass.describing import difference

    with terminal.Steps(silent=as_json) as steps:
        found = difference.diff(a, b, method=method, data=data, seed=seed, threads=threads, say=steps.say)
    if as_json:
        printing.json(found)
    else:
        for view in difference.tables(found):
            terminal.console.print(view)
        for line in difference.lines(found):
            terminal.console.print(line, markup=False)
    raise Exit(printing.EXIT_OF[difference.verdict(found, min_sqnr)])


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
@options.as_json
def verify(out: Path, key: Path | None, as_json: bool) -> None:
    """Check that OUT/ holds every file as it was signed, no other, and with --key whose signature it is.

    Exit code 2 when a file was changed, added or removed or the key is another; 5 when the files are as signed and no
    --key says by whom.
    """
    from edgepass.judging import signing

    found = signing.verify(out, key, _passphrase)
    if as_json:
        printing.json(found)
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

    with staging.explained(out, "report on a copy of it"):
        path = page.write(out)
    click.echo(str(path))


@cli.command(epilog=MODEL_HELP)
@click.argument("model")
@click.option("--lookback", type=click.IntRange(1), help="Rows that a preset forecasts from. [default: 336]")
@click.option("--horizon", type=click.IntRange(1), help="Rows that a preset forecasts. [default: 96]")
@click.option("--channels", type=click.IntRange(1), help="Columns that a preset forecasts. [default: 1]")
@options.as_json
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
        printing.json(found)
    else:
        terminal.console.print(description.table(model, found))


@cli.command("list")
@click.argument("kind")
@options.as_json
def list_(kind: str, as_json: bool) -> None:
    """Show what is on offer, each with what it is.

    KIND is a kind of part of a Passformer (embeddings, encodings, mixers, channel_mixers, merges, topologies, heads),
    or examples, metrics, presets, recipes, rewrites, runtimes or targets.
    """
    from edgepass import catalog

    offers = [{"name": name, "summary": catalog.summary(kind, name)} for name in catalog.names(kind)]
    if as_json:
        printing.json(offers)
    else:
        width = max(len(offer["name"]) for offer in offers)
        click.echo("\n".join(f"{offer['name']:<{width}}  {offer['summary']}".rstrip() for offer in offers))


@cli.command()
@options.as_json
def doctor(as_json: bool) -> None:
    """Import every target's packages and run a one-operation export through each."""
    from edgepass import doctor as probes
    from edgepass.cli import terminal
    from edgepass.errors import NOT_INSTALLED

    found = probes.check()
    if as_json:
        printing.json(found)
    else:
        terminal.console.print(probes.table(found))
    raise Exit(OK if all(probe.ok for probe in found) else NOT_INSTALLED)


@cli.command()
@click.option("-o", "--output", default="demo-out", show_default=True, type=click.Path(path_type=Path, file_okay=False))
@options.as_json
def demo(output: Path, as_json: bool) -> None:
    """Fit half-hourly electricity demand, export int8 and fp16 to all three formats, and judge every file."""
    from edgepass import staging
    from edgepass.cli import terminal
    from edgepass.series import demo as story

    bar, line = terminal.epochs(silent=as_json), terminal.Steps(silent=as_json)
    with staging.explained(output), bar as progress, line as steps:
        fitted, result = story.run(output, progress=progress, say=steps.say)
    if not as_json:
        printing.fitted(fitted)
    printing.finish(result, output / story.OUT, as_json=as_json)
