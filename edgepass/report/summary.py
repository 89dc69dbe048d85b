"""The verdicts for a terminal: a table, and the lines below it."""

from typing import TYPE_CHECKING

from edgepass.judging.figures import duration, number, size
from edgepass.judging.manifest import Evidence, Manifest, Metric
from edgepass.report.words import EVIDENCE, VERDICTS, outputs_evidence

if TYPE_CHECKING:
    from rich.table import Table

HIGHER, LOWER = "\N{UPWARDS ARROW}", "\N{DOWNWARDS ARROW}"


def table(manifest: Manifest) -> "Table":
    """The verdict table for a terminal, at most 100 columns wide. A letter after a number is its evidence level."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    marks: dict[Evidence, str] = {
        "host runtime": "",
        "reference executor": " r",
        "predicted": " p",
        "emulated ISA": " e",
        "device": " d",
    }
    colours = {"pass": "green", "fail": "bold red", "not-evaluated": "yellow"}
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, caption_justify="left")
    for heading, said in (
        ("target", [a.target for a in manifest.artifacts]),
        ("recipe", [a.recipe for a in manifest.artifacts]),
        ("verdict", ["evaluated"]),
    ):
        view.add_column(heading, overflow="fold", min_width=min(16, max(map(len, [heading, *said]))))
    metrics = dict.fromkeys(f"{a.metric.name} {_better(a.metric)}" for a in manifest.artifacts if a.metric)
    for heading in ("size", "/".join(metrics) or "metric", "worse", "SQNR dB", "peak", "p50", "deleg."):
        view.add_column(heading, justify="right", overflow="fold")
    used = set[str]()

    def marked(text: str, evidence: Evidence) -> str:
        used.add(evidence)
        return text + marks[evidence]

    for a in manifest.artifacts:
        of_outputs = outputs_evidence(a)
        peak = a.memory.peak_bytes if a.memory else None
        view.add_row(
            Text(a.target),
            Text(a.recipe),
            Text(VERDICTS[a.verdict], colours[a.verdict]),
            size(a.bytes),
            marked(number(a.metric.value), of_outputs) if a.metric else "-",
            f"{100 * a.metric.drop:+.1f}%" if a.metric and abs(a.metric.drop) < 100 else "-",
            marked(f"{a.parity.sqnr_db:.1f}", of_outputs) if a.parity else "-",
            marked(size(peak), a.memory.evidence) if a.memory and peak is not None else "-",
            marked(duration(a.latency.p50_us), a.latency.evidence) if a.latency else "-",
            "-" if a.delegated_flops is None else f"{100 * a.delegated_flops:.0f}%",
        )
    said = [f"{mark.strip()}: {EVIDENCE[e].partition(':')[0]}" for e, mark in marks.items() if e in used and mark]
    arrows = dict.fromkeys(_better(a.metric) for a in manifest.artifacts if a.metric)
    said += [f"{arrow} {'higher' if arrow == HIGHER else 'lower'} is better" for arrow in arrows]
    view.caption = Text("; ".join([*said, "worse: than the float model"]))
    return view


def _better(metric: Metric) -> str:
    return HIGHER if metric.higher_is_better else LOWER


def lines(manifest: Manifest) -> list[str]:
    """The reasons of every verdict that is not a pass, then the notes, those on all files first, as plain lines."""
    name = {id(a): f"{a.target} {a.recipe}" for a in manifest.artifacts}
    reasons = [f"{name[id(a)]}: {VERDICTS[a.verdict]}: {r}" for a in manifest.artifacts for r in a.reasons]
    return (
        reasons
        + [f"note: {n}" for n in manifest.notes]
        + [f"{name[id(a)]}: note: {n}" for a in manifest.artifacts for n in a.notes]
    )
