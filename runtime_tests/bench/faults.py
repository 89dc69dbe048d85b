"""python -m runtime_tests.bench.faults: plant every fault for every target and recipe; FAULTS.md says what caught it.

Cells are kept in faults/, each with its date, as they are found; a name given is planted anew and the rest
stay. Healthy files are judged beside them: one that fails is a false alarm.
"""

import datetime
import re
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import msgspec

from edgepass.judging import recording
from runtime_tests.bench import catalogue, pages, rows
from runtime_tests.faults import FAULTS, graphs
from runtime_tests.faults.fault import RECIPES, Fault
from runtime_tests.faults.models import BATCHES, MODELS
from runtime_tests.faults.subject import Folder, Found, Subject, in_this_process

HERE = Path(__file__).parent
PAGE = HERE / "FAULTS.md"
TARGETS = ("executorch", "coreml", "tflite", "onnx")
HEALTHY, OUTPUT = "healthy", "folder"
RULES = {
    "B": (r"^at a batch of", "the file is not right at another batch than that of the samples"),
    "E": (r"as large as its signal|no more often than a constant", "the error of a slice is as large as its signal"),
    "L": (r"SQNR of|^SQNR|agreement of", "the loss is beyond the recipe's bound"),
    "N": (r"^conversion: the noise", "the file is noisier than the recipe's own graph"),
    "F": (r"conversion: .*float32 file", "the target's float32 file does not keep the model"),
    "A": (r"audited coverage", "not every weight is in the recipe's format"),
    "W": (r"another weight", "weights have other values than the graph's"),
    "O": (r"^conversion: the file computes something else", "an operation is not the graph's"),
    "I": (r"of shape|shape \[|dtype|float32|another order|signature|inputs", "the interface is not the model's"),
    "R": (
        r"damaged|cut short|does not run|crashed|cannot (be|run)|not a |gave no answer",
        "the file does not run",
    ),
    "H": (r"content hash differs", "it is not the file that the manifest tells of"),
    "M": (r"manifest|golden|lists|schema|target|recipe|folder|bytes|sha256", "the folder is not as its manifest says"),
}
"""Sign: what a reason says where the rule has spoken, and the rule. The first that fits."""


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """What judging said of one planted fault. `target` and `recipe` are `folder` for a folder."""

    fault: str
    recipe: str
    date: str = ""
    """When it was planted; empty until it is kept."""
    verdict: str
    reasons: tuple[str, ...] = ()


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """All cells of a target. `versions`: by date, of the packages with which cells were planted then."""

    target: str
    versions: dict[str, tuple[str, ...]]
    cells: tuple[Cell, ...]


def rules(cell: Cell) -> str:
    """The signs of the rules that spoke; what passes is told in words."""
    if cell.verdict in ("not there", "not written"):
        return {"not there": "-", "not written": "X"}[cell.verdict]
    if cell.verdict == "pass":
        return "**passes**"
    found = {next((sign for sign, (says, _) in RULES.items() if re.search(says, r)), "?") for r in cell.reasons}
    signs = "".join(sign for sign in (*RULES, "?") if sign in found)
    return f"({signs})" if cell.verdict == "not-evaluated" else signs


STORE = rows.Kept(HERE / "faults", Kept)
"""By target."""


def keep(target: str, cells: Sequence[Cell]) -> None:
    """Beside what was kept before, in the order of the faults."""
    old = STORE.read().get(target) or Kept(target=target, versions={}, cells=())
    date = today()
    now = {f"{name} {version}" for name, version in recording.versions().items()}
    versions = {**old.versions, date: tuple(sorted(now.union(old.versions.get(date, ()))))}
    planted = (msgspec.structs.replace(cell, date=date) for cell in cells)
    merged = {(c.fault, c.recipe): c for c in (*old.cells, *planted)}
    order = {name: i for i, name in enumerate((HEALTHY, *(f.name for f in FAULTS)))}
    listed = sorted((c for c in merged.values() if _known(c.fault) in order), key=lambda c: order[_known(c.fault)])
    dates = sorted({cell.date for cell in listed})
    kept = Kept(target=target, versions={date: versions[date] for date in dates}, cells=tuple(listed))
    STORE.write(target, kept)


def today() -> str:
    """In UTC."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def _known(name: str) -> str:
    return name.split(":")[0]


def _has(target: str, name: str) -> bool:
    kept = STORE.read().get(target)
    return kept is not None and any(cell.fault == name for cell in kept.cells)


def plant(target: str, chosen: Sequence[Fault], healthy: bool) -> None:
    """All cells of one target."""
    for model in MODELS:
        mine = [f for f in chosen if f.model == model and target in f.targets and f.where != "folder"]
        mine.sort(key=lambda f: f.where == "graph")  # which takes a conversion each
        asked = model in ("small", "indices", *BATCHES) and (model not in BATCHES or target in graphs.VARYING)
        sound = asked and (healthy or not _has(target, f"{HEALTHY}: {model}"))
        if not mine and not (sound and model in ("small", *BATCHES)):
            continue
        with TemporaryDirectory(prefix="edgepass-faults-") as place:
            subject = Subject(model, target, Path(place))
            if sound:
                with in_this_process():
                    keep(target, [_cell(f"{HEALTHY}: {model}", name, found) for name, found in subject.sound()])
            for fault in mine:
                with nullcontext() if fault.where == "file" else in_this_process():  # what is no file may crash
                    keep(target, [_cell(fault.name, name, found) for name, found in subject.found(fault)])


def _cell(fault: str, recipe: str, found: Found) -> Cell:
    cell = Cell(fault=fault, recipe=recipe, verdict=found.verdict, reasons=found.reasons)
    print(f"{fault} {recipe}: {rules(cell)} {'; '.join(cell.reasons)[:160]}", flush=True)
    return cell


def plant_in_folders(chosen: Sequence[Fault]) -> None:
    """Those of an output folder."""
    with TemporaryDirectory(prefix="edgepass-faults-") as place:
        folder = Folder(Path(place))
        keep(OUTPUT, [_cell(f"{HEALTHY}: {OUTPUT}", OUTPUT, folder.found(None))])
        for fault in chosen:
            keep(OUTPUT, [_cell(fault.name, OUTPUT, folder.found(fault))])


def page() -> str:
    """FAULTS.md."""
    kept = STORE.read()
    cells = [(target, c) for target, row in kept.items() for c in row.cells]
    planted = [(t, c) for t, c in cells if _known(c.fault) != HEALTHY and c.verdict not in ("not there", "not written")]
    sound = [(t, c) for t, c in cells if _known(c.fault) == HEALTHY]

    def of(fault: Fault, target: str) -> str:
        row = {c.recipe: rules(c) for t, c in cells if t == target and c.fault == fault.name}
        names = [OUTPUT] if target == OUTPUT else [name for name in RECIPES if name in fault.recipes]
        mine = target == OUTPUT or target in fault.targets
        return " / ".join(row.get(name, "…") for name in names) if mine else "-"

    return pages.render(
        "faults.md.j2",
        faults=FAULTS,
        targets=TARGETS,
        recipes=RECIPES,
        rules=RULES,
        of=of,
        planted=planted,
        passed=[(t, c) for t, c in planted if c.verdict == "pass"],
        open=[(t, c) for t, c in planted if c.verdict == "not-evaluated"],
        missing=sum(
            of(f, t).count("…") for f in FAULTS for t in (*TARGETS, OUTPUT) if (f.where == OUTPUT) == (t == OUTPUT)
        ),
        sound=sound,
        alarms=[(t, c) for t, c in sound if c.verdict != "pass"],
        refused=[(t, c) for t, c in cells if c.verdict == "not written"],
        catalogue=catalogue._counts(catalogue.entries()),
        dates=sorted({date for row in kept.values() for date in row.versions}),
        versions=sorted({v for row in kept.values() for each in row.versions.values() for v in each}),
    )


@click.command()
@click.argument("names", nargs=-1)
@click.option("--target", "targets", multiple=True, default=(*TARGETS, OUTPUT))
@click.option("--page", "only_page", is_flag=True, help="Write FAULTS.md from what is kept.")
def main(names: tuple[str, ...], targets: tuple[str, ...], only_page: bool) -> None:
    """Plant faults of these names (`relu_dropped`), or all, and write the page."""
    known = {f.plant.__name__: f for f in FAULTS}
    if unknown := set(names) - known.keys():
        raise click.UsageError(f"no {', '.join(sorted(unknown))}; there is: {', '.join(known)}")
    chosen = [f for name, f in known.items() if not names or name in names]
    for target in () if only_page else targets:
        if target == OUTPUT:
            plant_in_folders([f for f in chosen if f.where == "folder"])
        else:
            plant(target, chosen, healthy=not names)
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
