"""Options that several commands share."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from edgepass.cli.units import CHANGE, RATIO_DB, SHARE, SIZE, TIME

if TYPE_CHECKING:
    from edgepass.judging.gates import Gates
    from edgepass.judging.manifest import Metric

Command = Callable[..., None]


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
method = click.option(
    "--method", default="", help="Which method of a FILE that has several. [default: what it runs unasked]"
)
one_method = click.option("--method", default="", help="The only method asked for of those in files. [default: each]")
overwrite = click.option("--overwrite", is_flag=True, help="Replace the output folder if it exists.")


def output(text: str) -> Callable[[Command], Command]:
    """-o, for a folder."""
    return click.option("-o", "--output", required=True, type=click.Path(path_type=Path, file_okay=False), help=text)


dynamic = click.option(
    "--dynamic",
    multiple=True,
    metavar="[INPUT:]D=LOW..HIGH",
    help="Let dimension D of the inputs vary, e.g. 1=1..512 tokens; repeatable. Files are judged at both ends and "
    "between.",
)


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
    command = click.option(
        "--sequence",
        type=click.IntRange(1),
        metavar="N",
        help="Calls after which a model's state begins anew in the data. [default: never]",
    )(command)
    most = click.option(
        "--eval-samples", type=click.IntRange(1), help="At most that many, spread evenly. [default: all]"
    )
    few = click.option("--calibration-samples", type=click.IntRange(1), default=256, show_default=True)
    return most(few(command))


def task(
    model: str,
    options: dict[str, Any],
    say: Callable[[str], None],
    before: "Mapping[str, Metric]" = MappingProxyType({}),
) -> Any:
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
        sequence=options["sequence"],
        before=before,
        say=say,
    )


def gates(options: dict[str, Any]) -> "Gates":
    from dataclasses import fields

    from edgepass.judging.gates import Gates

    return Gates(**{f.name: options[f.name] for f in fields(Gates) if f.name in options})
