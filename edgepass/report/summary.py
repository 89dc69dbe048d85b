"""The verdicts for a terminal: a table, and the lines below it."""

from typing import TYPE_CHECKING

from edgepass.judging.figures import duration, number, size
from edgepass.judging.manifest import ArtifactRecord, Evidence, Manifest, Metric
from edgepass.report import answers, conversions
from edgepass.report.words import EVIDENCE, VERDICTS, outputs_evidence, sentence, signed

if TYPE_CHECKING:
    from rich.table import Table

MARKS: dict[Evidence, str] = {
    "host runtime": "",
    "reference executor": " r",
    "predicted": " p",
    "emulated ISA": " e",
    "device": " d",
}
HIGHER, LOWER = "\N{UPWARDS ARROW}", "\N{DOWNWARDS ARROW}"
COLOURS = {"pass": "green", "fail": "bold red", "not-evaluated": "yellow"}


def table(manifest: Manifest) -> "Table":
    """The verdict table for a terminal, at most 100 columns wide. A letter after a target is its evidence level."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    view = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False, caption_justify="left")
    targets = [f"{a.target}{MARKS[outputs_evidence(a)]}" for a in manifest.artifacts]
    several = any(a.method for a in manifest.artifacts)
    for heading, said in (
        ("target", targets),
        ("recipe", [a.recipe for a in manifest.artifacts]),
        *([("method", [a.method for a in manifest.artifacts])] if several else []),
        ("verdict", ["evaluated"]),
    ):
        view.add_column(heading, overflow="fold", min_width=min(14, max(map(len, [heading, *said]))))
    metrics = dict.fromkeys(f"{a.metric.name} {_better(a.metric)}" for a in manifest.artifacts if a.metric)
    for heading in ("size", "/".join(metrics) or "metric", "worse", "loss", "peak", "p50", "float", "deleg."):
        view.add_column(heading, justify="right", overflow="fold")
    for a, target in zip(manifest.artifacts, targets, strict=True):
        named = [Text(target), Text(a.recipe), *([Text(a.method)] if several else [])]
        view.add_row(*named, Text(VERDICTS[a.verdict], COLOURS[a.verdict]), *_cells(a))
    used = set(map(outputs_evidence, manifest.artifacts))
    said = [f"{MARKS[e].strip()}: {EVIDENCE[e].partition(':')[0]}" for e in MARKS if e in used and MARKS[e]]
    arrows = dict.fromkeys(_better(a.metric) for a in manifest.artifacts if a.metric)
    said += [f"{arrow} {'higher' if arrow == HIGHER else 'lower'} is better" for arrow in arrows]
    meanings = ["worse: than the float model", "loss: dB, centred", "float: p50 of the float model"]
    view.caption = Text("; ".join([*said, *meanings]))
    return view


def lines(manifest: Manifest, folder: str = "OUT/") -> list[str]:
    """The reasons of every verdict that is not a pass, the notes, and the answers that the report begins with."""
    found = [f"{a.title}: {VERDICTS[a.verdict]}: {r}" for a in manifest.artifacts for r in a.reasons]
    found += [f"the folder: {VERDICTS[manifest.verdict]}: {r}" for r in manifest.reasons]
    found += [f"note: {n}" for n in manifest.notes]
    found += [f"{a.title}: note: {n}" for a in manifest.artifacts for n in a.notes]
    standing, quality = answers.standing(manifest), answers.quality(manifest)
    found.append(f"verdict: {standing.word}. {standing.sentence}")
    found.append(f"the model: {quality.headline}. {sentence(quality.detail)}")
    for heading, finding in (("recipes", answers.costs(manifest)), ("converters", conversions.changed(manifest))):
        found += [f"{heading}: {finding.headline}{'.' * bool(finding.detail)} {finding.detail}".rstrip()]
    for choice in answers.choices(manifest):
        shipped = f"{' and '.join(choice.files)}, {size(choice.bytes)}" if choice.record else "nothing"
        found.append(f"ship for {choice.target}: {shipped}: {choice.why}")
    return found + [f"next: {step.command}  ({step.why})" for step in answers.steps(manifest, folder)]


def _better(metric: Metric) -> str:
    return HIGHER if metric.higher_is_better else LOWER


def _cells(a: ArtifactRecord) -> list[str]:
    """The figures of one file. What a reference executor takes, in time or memory, is nobody's figure."""
    timed = outputs_evidence(a) != "reference executor"
    loss = answers.lost(a)
    peak = a.memory.peak_bytes if a.memory and timed else None
    latency = a.latency if timed else None
    return [
        size(a.bytes) if a.file else "-",
        number(a.metric.value) if a.metric else "-",
        signed(a.metric.drop) if a.metric else "-",
        f"{loss:.1f}" if loss is not None else "-",
        "-" if peak is None else size(peak),
        duration(latency.p50_us) if latency else "-",
        duration(latency.baseline_us) if latency and latency.baseline_us is not None else "-",
        "-" if a.delegated_flops is None else f"{100 * a.delegated_flops:.0f} %",
    ]
