"""python -m runtime_tests.bench.operators: every operation of torch as a file of every target, for OPERATORS.md.

Operations, and the arguments they are called with, are torch's own (OpInfo and ModuleInfo, with which torch tests
itself). Each becomes a model of its own, is written with the float32 recipe, run, and compared with torch. Cells are
kept in operators.json as they are found; a name given is measured anew and the rest stay.
"""

import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, get_args

import click
import msgspec
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgepass import exporters, runtimes
from edgepass.errors import EdgepassError, first_line
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.judging.recording import versions
from edgepass.quantize import recipe as recipes
from runtime_tests.bench import pages
from runtime_tests.matrix import TARGETS

HERE = Path(__file__).parent
KEPT, PAGE = HERE / "operators.json", HERE / "OPERATORS.md"
SAMPLES, FEWEST = 24, 4
"""Of the same shapes and of other numbers, that a file is judged on; and so few that it is left out."""
TRIED, ELEMENTS, RANK = 40, 4096, 5
"""Of torch's samples of one operation, those looked at; and what is too large for a phone's operator."""
SECONDS, BATCH, MOST = 600, 48, 300
CLOSE = 1e-3
"""Of the largest number: float32, and functions that runtimes approximate."""
DENSE = torch.contiguous_format
LEAVES = (Tensor, int, float, bool, str, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format)
LAYERS = ("nn.functional.", "native_")
Outcome = Literal["right", "wrong", "does not run", "refused", "not captured", "crashed"]


class Cell(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """What came of one operation on one target; `case` counts the ways in which it was called."""

    operation: str
    case: int
    target: str
    outcome: Outcome
    reason: str = ""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """operators.json."""

    versions: dict[str, str]
    cells: tuple[Cell, ...]


class Called(nn.Module):
    """An operation, called with the model's inputs at `places` among its arguments; all else is the model's own."""

    def __init__(
        self, operation: Callable[..., Any], spec: pytree.TreeSpec, leaves: Sequence[Any], places: Sequence[int]
    ) -> None:
        super().__init__()
        self.operation, self.spec, self.places = operation, spec, places
        self.leaves = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        self.held = [n for n, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and n not in places]
        for place in self.held:
            self.register_buffer(f"held_{place}", leaves[place])

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """All tensors that the operation gives, complex ones as pairs of real numbers."""
        leaves = list(self.leaves)
        for place in self.held:
            leaves[place] = getattr(self, f"held_{place}")
        for place, tensor in zip(self.places, tensors, strict=True):
            leaves[place] = tensor
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        found = pytree.tree_leaves(self.operation(*args, **kwargs))
        tensors = (each for each in found if isinstance(each, Tensor))
        return tuple(torch.view_as_real(each.resolve_conj()) if each.is_complex() else each for each in tensors)


def _varies(leaf: Any) -> bool:
    """Whether it may be an input of a model."""
    return isinstance(leaf, Tensor) and leaf.dtype == torch.float32


def operations() -> dict[str, Callable[[], Iterator[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]]]]:
    """By name, what gives torch's own samples of each: what to call, and with which arguments."""
    from torch.testing._internal.common_methods_invocations import op_db
    from torch.testing._internal.common_modules import module_db

    found: dict[str, Any] = {}
    for info in op_db:
        name = f"{info.name}.{info.variant_test_name}" if info.variant_test_name else info.name
        if torch.float32 in info.dtypes:
            found[name] = _samples_of(info)
    for module in module_db:
        found[f"nn.{module.module_cls.__name__}"] = _modules_of(module)
    return found


def _samples_of(info: Any) -> Callable[[], Iterator[Any]]:
    def samples() -> Iterator[Any]:
        for sample in info.sample_inputs("cpu", torch.float32, requires_grad=False):
            yield info.op, (sample.input, *sample.args), dict(sample.kwargs)

    return samples


def _modules_of(info: Any) -> Callable[[], Iterator[Any]]:
    def samples() -> Iterator[Any]:
        given = info.module_inputs_func(info, "cpu", torch.float32, requires_grad=False, training=False)
        for sample in given:
            if sample.forward_input is not None:
                torch.manual_seed(0)
                built = info.module_cls(*sample.constructor_input.args, **sample.constructor_input.kwargs).eval()
                yield built, sample.forward_input.args, sample.forward_input.kwargs

    return samples


def cases(name: str, samples: Callable[[], Iterator[Any]]) -> Iterator[tuple[Called, list[tuple[Tensor, ...]]]]:
    """The largest of the samples that are small enough, and that with most arguments: a model and its inputs.

    Of a layer's function the first tensor is the input, and its weights are the model's; of others all tensors are.
    """
    draws = [_drawn(samples, seed) for seed in range(SAMPLES)]
    fit = {number: leaves for number, (_, leaves, _) in enumerate(draws[0]) if _fits(leaves)}
    if not fit:
        return
    largest = max(fit, key=lambda n: sum(leaf.numel() for leaf in fit[n] if _varies(leaf)))
    fullest = max(fit, key=lambda n: (len(fit[n]), max(leaf.dim() for leaf in fit[n] if _varies(leaf))))
    for number in sorted({largest, fullest}):
        operation, leaves, spec = draws[0][number]
        alike = [draw[number][1] for draw in draws if number < len(draw) and _alike(draw[number][1], leaves)]
        places = [place for place, leaf in enumerate(leaves) if _varies(leaf)]
        places = places[:1] if name.startswith(LAYERS) else places
        if len(alike) >= FEWEST:
            yield (
                Called(operation, spec, leaves, places),
                [tuple(each[place].clone(memory_format=DENSE) for place in places) for each in alike],
            )


def _drawn(samples: Callable[[], Iterator[Any]], seed: int) -> list[tuple[Any, list[Any], Any]]:
    torch.manual_seed(seed)
    found = []
    for operation, args, kwargs in itertools.islice(samples(), TRIED):
        leaves, spec = pytree.tree_flatten((args, kwargs))
        found.append((operation, leaves, spec))
    return found


def _fits(leaves: Sequence[Any]) -> bool:
    tensors = [leaf for leaf in leaves if _varies(leaf)]
    return (
        bool(tensors)
        and all(isinstance(leaf, LEAVES) for leaf in leaves)
        and all(x.layout == torch.strided and 0 < x.numel() <= ELEMENTS and x.dim() <= RANK for x in tensors)
    )


def _alike(leaves: Sequence[Any], others: Sequence[Any]) -> bool:
    """Whether both are of the same shapes, and the same in all that is no input."""
    return len(leaves) == len(others) and all(
        isinstance(b, Tensor) and a.shape == b.shape
        if _varies(a)
        else torch.equal(a, b)
        if isinstance(a, Tensor) and isinstance(b, Tensor)
        else a == b
        for a, b in zip(leaves, others, strict=True)
    )


def measure(name: str, samples: Callable[[], Iterator[Any]], target: str) -> Iterator[Cell]:
    """The cells of one operation on one target."""
    for number, (model, inputs) in enumerate(cases(name, samples)):
        outcome, reason = _made(model.eval(), inputs, target)
        yield Cell(operation=name, case=number, target=target, outcome=outcome, reason=_short(reason))


def _made(model: nn.Module, inputs: Sequence[tuple[Tensor, ...]], target: str) -> tuple[Outcome, str]:
    """What came of the model as a file of the target, run on the inputs, and why."""
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        try:
            expected, again = ([[y.numpy() for y in model(*arguments)] for arguments in inputs] for _ in range(2))
            if any(map(_different, again, expected)):
                return "not captured", "it gives other numbers at every call"
            program = capture(model, inputs[0])
            tags = [getattr(node.target, "tags", ()) for node in program.exported.graph.nodes]
            if any(torch.Tag.nondeterministic_seeded in of for of in tags):
                return "not captured", "it draws random numbers"
            job = Job(program, recipes.read("fp32"), None)
        except Exception as error:  # whatever an operation raises of its own samples, or torch.export of it
            return "not captured", str(error)
        path = Path(folder) / f"model{exporters.target(target).suffix}"
        try:
            exporters.export(target, job, path)
        except EdgepassError as error:
            return "refused", str(error)
        try:
            runtime = runtimes.runtime(exporters.target(target).runtime)
            runtime.prepare(path)
            session = runtime.load(path, threads=1)
            given = [session([x.numpy() for x in arguments]) for arguments in inputs]
        except Exception as error:  # whatever a runtime raises of a file
            return "does not run", str(error)
    for mine, right in zip(given, expected, strict=True):
        if difference := _different(mine, right):
            return "wrong", difference
    return "right", ""


def _different(given: Sequence[Any], expected: Sequence[Any]) -> str:
    """How outputs differ from the model's; empty where they do not, but for rounding."""
    if len(given) != len(expected):
        return f"{len(given)} outputs for {len(expected)}"
    for number, (mine, right) in enumerate(zip(given, expected, strict=True)):
        alone = right.shape == () and mine.shape == (1,)  # Core ML has no single numbers
        if mine.shape != right.shape and not alone:
            return f"output {number} is of shape {list(mine.shape)}, not {list(right.shape)}"
        if not np.issubdtype(right.dtype, np.inexact):
            if differing := int((mine != right).sum()):
                return f"output {number}: {differing} of {right.size} differ"
            continue
        finite = right[np.isfinite(right)]
        largest = float(abs(finite).max()) if finite.size else 1.0
        if not np.allclose(mine, right, rtol=CLOSE, atol=CLOSE * largest, equal_nan=True):
            off = np.nanmax(abs(np.where(np.isfinite(right), mine - right, 0)))
            return f"output {number} is off by {off:.3g} where its largest is {largest:.3g}"
    return ""


OURS = (
    r"^\w+ cannot convert the model( with fp32)?( at operators\.py:\d+, `[^`]*`)?: (its converter raises )?",
    r"\S*/(?=model\.|operators\.py)",  # a folder of this run alone
    r"; (change that part of the model|compute that outside the model).*$",
)
"""In a reason, what is told of every one."""


def _short(reason: str) -> str:
    return re.sub("|".join(OURS), "", first_line(reason))[:MOST] if reason else ""


def read() -> list[Cell]:
    """The cells that are kept."""
    return list(msgspec.json.decode(KEPT.read_bytes(), type=Kept).cells) if KEPT.exists() else []


def keep(cells: Iterable[Cell]) -> None:
    """Write the cells, each in the place of its last, and the page."""
    found = tuple(sorted(set(cells)))
    kept = Kept(versions=versions(), cells=found)
    KEPT.write_bytes(msgspec.json.encode(kept).replace(b"},{", b"},\n{") + b"\n")  # a line for each
    PAGE.write_text(page(found))


def page(cells: Sequence[Cell]) -> str:
    """OPERATORS.md: how many of each target, and each cell that is not right."""
    outcomes = get_args(Outcome)
    measured = {t: mine for t in TARGETS if (mine := [cell for cell in cells if cell.target == t])}
    counts = {
        t: [len({cell.operation for cell in mine}), *(sum(cell.outcome == o for cell in mine) for o in outcomes)]
        for t, mine in measured.items()
    }
    rows: dict[tuple[str, str, str], list[str]] = {}
    for cell in cells:
        if cell.outcome != "right":
            targets = rows.setdefault((cell.operation, cell.outcome, cell.reason), [])
            targets += [cell.target] if cell.target not in targets else []
    return pages.render(
        "operators.md.j2",
        outcomes=outcomes,
        counts=counts,
        unmeasured=[t for t in TARGETS if t not in measured],
        rows=rows,
        operations=len({c.operation for c in cells}),
        cells=len(cells),
    )


def _in_a_process(target: str, names: Sequence[str]) -> list[Cell]:
    """The cells of a few operations, measured in a fresh interpreter; one that ends it is told, and the rest go on."""
    found: list[Cell] = []
    left = list(names)
    while left:
        command = [sys.executable, "-m", "runtime_tests.bench.operators", "--target", target, "--here", *left]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with tempfile.TemporaryFile("w+") as out:
            try:
                code = subprocess.run(
                    command, stdout=out, stderr=subprocess.DEVNULL, timeout=SECONDS, env=environment, check=False
                ).returncode
            except subprocess.TimeoutExpired:
                code = None
            out.seek(0)
            lines = [json.loads(line) for line in out if line.startswith("{")]
        found += [msgspec.convert(line, Cell) for line in lines if "target" in line]
        done = {line["done"] for line in lines if "done" in line}
        if code is None and done:  # time ended for the row of them, not for one
            left = [name for name in left if name not in done]
            continue
        left = [name for name in left if name not in done]
        if left:
            why = "took too long" if code is None else f"ended the process with exit code {code}"
            found.append(Cell(operation=left[0], case=0, target=target, outcome="crashed", reason=why))
            left = left[1:]
    return found


@click.command()
@click.argument("names", nargs=-1)
@click.option("--target", "targets", multiple=True, type=click.Choice(TARGETS), help="Again for more. [default: all]")
@click.option("--jobs", default=1, show_default=True, help="Processes at a time.")
@click.option("--missing", is_flag=True, help="Only what no cell is kept of.")
@click.option("--not-right", is_flag=True, help="Only what has a cell that is not right.")
@click.option("--here", is_flag=True, hidden=True, help="In this process, a line of JSON for each cell.")
def main(names: Sequence[str], targets: Sequence[str], jobs: int, missing: bool, not_right: bool, here: bool) -> None:
    """Measure the operations that are named, or all of them."""
    known = operations()
    if here:
        for name in names:
            for cell in measure(name, known[name], targets[0]):
                click.echo("\n" + msgspec.json.encode(cell).decode())
            click.echo("\n" + json.dumps({"done": name}))
        return
    kept: dict[tuple[str, str], list[Cell]] = {}
    for cell in read():
        if cell.operation in known:
            kept.setdefault((cell.target, cell.operation), []).append(cell)

    def asked_for(target: str, name: str) -> bool:
        mine = kept.get((target, name))
        is_right = mine is not None and all(cell.outcome in ("right", "not captured") for cell in mine)
        return not (missing and mine is not None) and not (not_right and (mine is None or is_right))

    batches = [
        (target, asked[i : i + BATCH])
        for target in targets or TARGETS
        if (asked := [name for name in names or known if asked_for(target, name)])
        for i in range(0, len(asked), BATCH)
    ]
    with ThreadPoolExecutor(jobs) as pool:
        for (target, asked), cells in zip(batches, pool.map(lambda b: _in_a_process(*b), batches), strict=True):
            for name in asked:
                kept[target, name] = [cell for cell in cells if cell.operation == name]
            keep(itertools.chain.from_iterable(kept.values()))
            for cell in cells:
                click.echo(f"{cell.target:10} {cell.outcome:12} {cell.operation} {cell.reason}")


if __name__ == "__main__":
    main()
