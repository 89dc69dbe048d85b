"""The report: one page, sufficient in itself, of everything a manifest says; and the same verdicts for the terminal.

k golden samples, L history steps, H forecast steps, C series.
"""

import json
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgepass import staging
from edgepass.judging import manifest as manifests
from edgepass.judging.manifest import ArtifactRecord, Evidence, Manifest
from edgepass.report import words
from edgepass.report.words import EVIDENCE, VERDICTS, duration, number, outputs_evidence, size

if TYPE_CHECKING:
    from rich.table import Table

MAX_SAMPLES, MAX_CHANNELS, MAX_OUTPUTS = 4, 3, 2
Array = NDArray[np.generic]
Floats = NDArray[np.float64]


def write(folder: Path) -> Path:
    """Write `folder`/report.html from its manifest.json and golden.safetensors, and return its path.

    Equal inputs give equal bytes. Without golden outputs the page says so and has no plots of them.
    Raises InputError when the folder holds no manifest.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    manifest = manifests.read(folder)
    golden, absent = _golden(folder / manifests.GOLDEN)
    here = resources.files("edgepass.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    for name in ("size", "duration", "percent", "decibels", "number", "change", "gate", "shape", "sentence"):
        environment.filters[name] = getattr(words, name)
    page = environment.from_string(here.joinpath("page.html.j2").read_text("utf-8")).render(
        m=manifest,
        css=Markup(here.joinpath("style.css").read_text("utf-8")),  # our own file, not the user's words
        words=VERDICTS,
        evidence=EVIDENCE,
        outputs_evidence=outputs_evidence,
        verdict_sentence=words.verdict(manifest),
        float_bytes=4 * manifest.model.parameters,
        fallbacks=[(a, Counter((f.op, f.module, f.reason) for f in a.fallbacks)) for a in manifest.artifacts],
        absent=absent,
        **_pictures(manifest, golden),
    )
    path = folder / manifests.REPORT
    staging.write(path, page.encode())
    return path


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
    metrics = dict.fromkeys(a.metric.name for a in manifest.artifacts if a.metric)
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
    view.caption = Text("; ".join([*said, "worse: than the float model"]))
    return view


def summary_lines(manifest: Manifest) -> list[str]:
    """The reasons of every verdict that is not a pass, then the notes, as plain lines."""
    name = {id(a): f"{a.target} {a.recipe}" for a in manifest.artifacts}
    reasons = [f"{name[id(a)]}: {VERDICTS[a.verdict]}: {r}" for a in manifest.artifacts for r in a.reasons]
    return reasons + [f"{name[id(a)]}: note: {n}" for a in manifest.artifacts for n in a.notes]


def _golden(path: Path) -> tuple[dict[str, Array], str]:
    """The golden tensors, and a sentence that says why there are none."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not path.is_file():
        return {}, f"There are no plots of outputs, because {path.name} is not beside this page's manifest."
    try:
        return load_file(path), ""
    except (OSError, SafetensorError, ValueError, json.JSONDecodeError):
        return {}, f"There are no plots of outputs, because {path.name} cannot be read; build the artifacts again."


def _pictures(manifest: Manifest, golden: dict[str, Array]) -> dict[str, Any]:
    """Every plot with its caption, and the style that each artifact has in all of them."""
    from markupsafe import Markup

    from edgepass.report import plots

    styles = plots.styles([(a.target, a.recipe) for a in manifest.artifacts])
    drawn = [(a, s) for a, s in zip(manifest.artifacts, styles, strict=True) if f"{a.golden}_0" in golden]
    forecasts, scatters = [], []
    if manifest.model.columns and drawn:
        forecasts = _forecasts(manifest, golden, drawn)
    else:
        for a, style in drawn:
            for j in range(MAX_OUTPUTS):
                reference, output = golden.get(f"reference_{j}"), golden.get(f"{a.golden}_{j}")
                if reference is None or output is None or reference.shape != output.shape:
                    continue
                caption = f"{a.target} · {a.recipe}" + (f", output {j}" if len(manifest.model.outputs) > 1 else "")
                alt = f"Outputs of {caption} against the float model's, over {len(output)} samples"
                picture = plots.scatter(_flat(reference), _flat(output), style, alt)
                scatters.append({"caption": caption, "svg": Markup(picture)})
    histograms = []
    bins = [a.errors for a in manifest.artifacts if a.errors]
    positive = [e for b in bins for e in b.edges if e > 0.0]
    common = (min(positive), max(positive)) if positive and any(plots.is_logarithmic(b.edges) for b in bins) else None
    for a, style in zip(manifest.artifacts, styles, strict=True):
        if a.errors and sum(a.errors.counts):
            caption = f"{a.target} · {a.recipe}"
            picture = plots.histogram(a.errors.edges, a.errors.counts, common, style, f"Absolute errors of {caption}")
            histograms.append({"caption": caption, "svg": Markup(picture), "total": sum(a.errors.counts)})
    legend = [{"name": f"{a.target} · {a.recipe}", "style": s} for a, s in drawn]
    return {"forecasts": forecasts, "scatters": scatters, "histograms": histograms, "legend": legend}


def _forecasts(manifest: Manifest, golden: dict[str, Array], drawn: list[tuple[ArtifactRecord, Any]]) -> list[Any]:
    """One panel for each golden sample and each of the series in which some artifact strays furthest from float."""
    from markupsafe import Markup

    from edgepass.report import plots

    columns, levels = manifest.model.columns, manifest.model.levels
    bands: list[Floats] = []
    if levels:
        golden, bands = _median(golden, levels, len(columns))
    as_series = {key: _flat(v).reshape(len(v), -1, len(columns)) for key, v in golden.items() if _fits(v, len(columns))}
    if "input_0" not in as_series or "reference_0" not in as_series:
        return []
    history_kLC, reference_kHC, truth_kHC = as_series["input_0"], as_series["reference_0"], as_series.get("target")
    outputs = [(style, as_series[key]) for a, style in drawn if (key := f"{a.golden}_0") in as_series]
    outputs = [(style, output_kHC) for style, output_kHC in outputs if output_kHC.shape == reference_kHC.shape]
    spread_C = reference_kHC.std((0, 1)) + 1e-12
    strayed_C = np.nan_to_num(
        np.max([np.abs(o - reference_kHC).max((0, 1)) / spread_C for _, o in outputs] or [0 * spread_C], 0)
    )
    channels = sorted(np.argsort(-strayed_C, kind="stable")[:MAX_CHANNELS].tolist())
    shown = max(reference_kHC.shape[1], 48)
    panels = []
    for k in range(min(len(reference_kHC), MAX_SAMPLES)):
        for c in channels:
            truth_H = None if truth_kHC is None or truth_kHC.shape != reference_kHC.shape else truth_kHC[k, :, c]
            caption = f"{columns[c]}, sample {k + 1}"
            lines = [(style, output_kHC[k, :, c]) for style, output_kHC in outputs]
            alt = f"Forecast of {caption}: {len(lines)} artifacts beside the float model" + (
                " and the truth" * (truth_H is not None)
            )
            band = [level_kHC[k, :, c] for level_kHC in bands]
            picture = plots.forecast(history_kLC[k, -shown:, c], truth_H, reference_kHC[k, :, c], lines, alt, band)
            panels.append({"caption": caption, "svg": Markup(picture)})
    return panels


def _median(golden: dict[str, Array], levels: list[float], columns: int) -> tuple[dict[str, Array], list[Floats]]:
    """The same tensors with the median of each forecast in its place; the float model's lowest and highest level."""
    forecasts = {
        key: value.reshape(len(value), len(levels), -1, columns)
        for key, value in golden.items()
        if key != "target" and not key.startswith("input_") and _fits(value, columns) and value.ndim >= 4
    }
    middle = levels.index(0.5) if 0.5 in levels else len(levels) // 2
    bands = [forecasts["reference_0"][:, q].astype(np.float64) for q in (0, -1)] if "reference_0" in forecasts else []
    return golden | {key: value[:, middle] for key, value in forecasts.items()}, bands


def _fits(tensor: Array, columns: int) -> bool:
    return tensor.ndim >= 2 and tensor.shape[-1] == columns and tensor.size > 0


def _flat(tensor: Array) -> Floats:
    values = tensor.astype(np.float64).ravel()
    return np.where(np.isfinite(values), values, np.nan)
