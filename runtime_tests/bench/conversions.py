"""python -m runtime_tests.bench.conversions: seconds that a conversion takes, ours beside the bare converter's.

Of the corpus' largest models by the operations of their captured graphs, a process each. Ours is what an export of one
target does from module to file: capture, rewrites, converter; theirs is the converter called bare. Both are processor
time, which what else a machine does changes little; a first, small model has imported everything. The rows are kept in
conversions/; CONVERSIONS.md is their table.
"""

import contextlib
import datetime
import gc
import io
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import msgspec
import torch

from edgepass import exporters
from edgepass.errors import EdgepassError
from edgepass.exporters import Job
from edgepass.exporters._capture import Program, capture
from edgepass.judging import recording
from edgepass.quantize import recipe
from edgepass.task import Task
from runtime_tests import corpus
from runtime_tests.bench import pages, rivals, rows
from runtime_tests.bench.models import Subject

HERE = Path(__file__).parent
PAGE = HERE / "CONVERSIONS.md"
LARGEST = 10
AIM = 1.15
SECONDS = 2400
"""For a model at most."""
SMALL = "gru"
ASKED = [key for key in rivals.BARE if key[1] == "fp32"]


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One conversion: seconds of processor time. `theirs` is None where the bare converter gives no file."""

    target: str
    recipe: str
    ours: float
    theirs: float | None

    @property
    def ratio(self) -> float | None:
        return None if self.theirs is None else self.ours / self.theirs


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One model; `nodes` are operations of its captured graph, `capture` the seconds that capturing it takes us.

    An export of several targets captures once, and each of their converters anew.
    """

    model: str
    date: str
    versions: dict[str, str]
    nodes: int
    capture: float
    cells: tuple[Cell, ...]

    @property
    def ratio(self) -> float | None:
        """Of all targets in one go; None where one of the bare converters gives no file."""
        theirs = [cell.theirs for cell in self.cells if cell.theirs is not None]
        if len(theirs) < len(self.cells):
            return None
        return (sum(cell.ours for cell in self.cells) - (len(self.cells) - 1) * self.capture) / sum(theirs)


KEPT = rows.Kept(HERE / "conversions", Measured)


def nodes(name: str) -> int:
    """Operations of a model's captured graph; none of one that cannot be captured."""
    try:
        return _nodes(_captured(_task(name)))
    except EdgepassError:
        return 0


def _nodes(program: Program) -> int:
    return sum(node.op == "call_function" for node in program.exported.graph.nodes)


def _task(name: str) -> Task:
    return corpus.load(name).task(name, trained=False)


def _captured(task: Task) -> Program:
    return capture(task.module, task.args)


def measure(name: str) -> Measured:
    """All conversions of one model."""
    _cells(_task(SMALL))
    task = _task(name)
    cells = tuple(_cells(task))
    return Measured(
        model=name,
        date=datetime.date.today().isoformat(),
        versions=recording.versions(),
        nodes=_nodes(_captured(task)),
        capture=round(_seconds(partial(_captured, task)), 2),
        cells=cells,
    )


def _cells(task: Task) -> list[Cell]:
    with TemporaryDirectory(prefix="edgepass-conversions-") as folder:
        return [_cell(key, task, Path(folder) / "-".join(key)) for key in ASKED]


def _cell(key: tuple[str, str], task: Task, stem: Path) -> Cell:
    suffix = exporters.target(key[0]).suffix
    subject = Subject(model=task.module, args=task.args, calibration=[], held_out=[])
    theirs: float | None
    try:
        theirs = _seconds(partial(rivals.BARE[key], subject, stem.with_name(f"{stem.name}-bare{suffix}")))
    except Exception:  # whatever a converter raises
        theirs = None
    ours = _seconds(partial(_ours, key, task, stem.with_name(f"{stem.name}-ours{suffix}")))
    return Cell(target=key[0], recipe=key[1], ours=round(ours, 2), theirs=theirs and round(theirs, 2))


def _ours(key: tuple[str, str], task: Task, path: Path) -> None:
    exporters.export(key[0], Job(_captured(task), recipe.read(key[1])), path)


def _seconds(call: Callable[[], object]) -> float:
    gc.collect()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        start = time.process_time()
        call()
        return time.process_time() - start


def page(models: Sequence[Measured]) -> str:
    """CONVERSIONS.md, the largest model first."""
    ratios = {
        target: [r for m in models for c in m.cells if c.target == target and (r := c.ratio)] for target, _ in ASKED
    }
    ratios["all"] = [r for m in models if (r := m.ratio)]
    return pages.render(
        "conversions.md.j2",
        {"sign": _sign},
        largest=LARGEST,
        rows=sorted(models, key=lambda row: -row.nodes),
        targets=[target for target, _ in ASKED],
        means={target: statistics.geometric_mean(found) if found else None for target, found in ratios.items()},
        aim=AIM,
        **rows.told(models),
    )


def _sign(ratio: float | None) -> str:
    if ratio is None:
        return "-"
    return f"**{ratio:.2f}**" if ratio > AIM else f"{ratio:.2f}"


@click.command()
@click.argument("names", nargs=-1)
@click.option("--here", is_flag=True, hidden=True, help="In this process.")
def main(names: Sequence[str], here: bool) -> None:
    """Measure the models that are named, or the largest of all."""
    torch.set_num_threads(1)
    if here:
        for name in names:
            KEPT.write(name, measure(name))
        return
    asked = names or sorted(corpus.names(), key=nodes)[-LARGEST:]
    if not names:
        KEPT.forget_all_but(asked)
    for name in asked:
        for text in rows.measured("conversions", [name], jobs=1, seconds=SECONDS, only=None):
            click.echo(f"{name} {text}")
        PAGE.write_text(page(list(KEPT.read().values())))


if __name__ == "__main__":
    main()
