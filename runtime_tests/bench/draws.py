"""python -m runtime_tests.bench.draws NAME: what a cell of CORPUS.md owes to the few samples that it was judged on.

A model of the corpus in static int8, as our recipe's own graph has it and as the graphs of the converters' own
quantisers, beside the float model on many other samples: no file is written, and torch runs all three.
"""

import warnings
from collections.abc import Iterator, Sequence

import click
import numpy as np
import torch
from torch import Tensor, nn

from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.exporters._quiet import quiet
from edgepass.judging import parity
from edgepass.quantize import recipe
from edgepass.runtimes import Array
from edgepass.structure import leaves
from edgepass.task import Task
from runtime_tests import corpus
from runtime_tests.bench import rivals
from runtime_tests.bench.models import Subject

SEED = 7
"""Of the samples; calibration and judging have others."""


def graphs(task: Task) -> Iterator[tuple[str, nn.Module]]:
    """Whose each is, and the graph."""
    assert task.calibration
    calibrate = task.calibration.arguments
    subject = Subject(model=task.module, args=task.args, calibration=list(calibrate()), held_out=[])
    with quiet():
        job = Job(capture(task.module, task.args), recipe.read("static_wi8_ai8"), calibrate)
        made = ("ours", job.realised()), ("XNNPACK's quantiser", rivals.xnnpack_graph(subject))
    yield from made
    with quiet():
        graph, _ = rivals.litert_graph(subject)
    yield "LiteRT's quantiser", graph


def first_output(module: nn.Module, samples: Sequence[Tensor]) -> Array:
    """[samples, ...] of the first tensor that it gives."""
    with torch.no_grad():
        rows = [next(leaf for _, leaf in leaves(module(*(x[None] for x in row)))) for row in zip(*samples, strict=True)]
    return np.concatenate([np.asarray(row) for row in rows])


@click.command()
@click.argument("names", nargs=-1, required=True, type=click.Choice(corpus.names()))
@click.option("--samples", default=256, show_default=True)
def main(names: Sequence[str], samples: int) -> None:
    """Print the SQNR of each graph's first output, and the share of samples whose largest number stays the largest."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in names:
        foreign = corpus.load(name)
        task = foreign.task(name)
        torch.manual_seed(SEED)
        inputs, _ = foreign.data(samples, SEED)
        wanted = first_output(task.module, inputs)
        for whose, graph in graphs(task):
            given = first_output(graph, inputs)
            same = float(np.mean(wanted.argmax(-1) == given.argmax(-1)))
            click.echo(f"{name} {whose}: {parity.of([wanted], [given]).sqnr_db:.1f} dB, {100 * same:.1f} %")


if __name__ == "__main__":
    main()
