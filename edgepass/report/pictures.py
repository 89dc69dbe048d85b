"""What is drawn of a manifest and its golden samples: forecasts, outputs and errors, each with its caption.

k golden samples, L history steps, H forecast steps, C series.
"""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepass.judging.manifest import ArtifactRecord, Manifest, prefix
from edgepass.report import plots, words

MAX_SAMPLES, MAX_CHANNELS, MAX_OUTPUTS = 3, 3, 2
YEARS = (1700, 2300)
"""What a time axis may reach; anything else is a number that was taken for a time."""
Array = NDArray[np.generic]
Floats = NDArray[np.float64]


def golden(path: Path) -> tuple[dict[str, Array], str]:
    """The golden tensors, and a sentence that says why there are none."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not path.is_file():
        return {}, f"There are no plots of outputs, because {path.name} is not beside this page's manifest."
    try:
        return load_file(path), ""
    except (OSError, SafetensorError, ValueError, json.JSONDecodeError):
        return {}, f"There are no plots of outputs, because {path.name} cannot be read; build the artifacts again."


def draw(manifest: Manifest, golden: dict[str, Array]) -> dict[str, Any]:
    """Every plot with its caption, and the colours of the targets in them."""
    from markupsafe import Markup

    colours = plots.colours([a.target for a in manifest.artifacts])
    drawn = [a for a in manifest.artifacts if f"{a.golden}_0" in golden]
    forecasts, scatters = [], []
    if manifest.model.columns and drawn:
        forecasts = _forecasts(manifest, golden, drawn, colours)
    else:
        for a in drawn:
            for j in range(MAX_OUTPUTS):
                reference, output = golden.get(f"{prefix(a.method)}reference_{j}"), golden.get(f"{a.golden}_{j}")
                if reference is None or output is None or reference.shape != output.shape:
                    continue
                several = a.method or len(manifest.model.outputs) > 1
                caption = _caption(a) + (f", output {j}" if several else "")
                alt = f"What {caption} adds to the float model's outputs, over {len(output)} samples"
                picture = plots.errors(_flat(reference), _flat(output), colours[a.target], alt)
                scatters.append({"caption": caption, "svg": Markup(picture)})
    histograms = []
    bins = [a.errors for a in manifest.artifacts if a.errors]
    positive = [e for b in bins for e in b.edges if e > 0.0]
    common = (min(positive), max(positive)) if positive and any(plots.is_logarithmic(b.edges) for b in bins) else None
    for a in manifest.artifacts:
        if a.errors and sum(a.errors.counts):
            caption = _caption(a)
            picture = plots.histogram(
                a.errors.edges, a.errors.counts, common, colours[a.target], f"Absolute errors of {caption}"
            )
            histograms.append({"caption": caption, "svg": Markup(picture), "total": sum(a.errors.counts)})
    legend = {a.target: colours[a.target] for a in drawn}
    return {"forecasts": forecasts, "scatters": scatters, "histograms": histograms, "legend": legend}


def _caption(a: ArtifactRecord) -> str:
    return " · ".join(filter(None, [a.target, a.recipe, a.method]))


def _forecasts(
    manifest: Manifest, golden: dict[str, Array], drawn: list[ArtifactRecord], colours: dict[str, str]
) -> list[Any]:
    """One panel for each golden sample and each of the series in which some artifact strays furthest from float."""
    from markupsafe import Markup

    columns, levels = manifest.model.columns, manifest.model.levels
    bands: list[Floats] = []
    if levels:
        golden, bands = _median(golden, levels, len(columns))
    as_series = {key: _flat(v).reshape(len(v), -1, len(columns)) for key, v in golden.items() if _fits(v, len(columns))}
    if "input_0" not in as_series or "reference_0" not in as_series:
        return []
    history_kLC, reference_kHC, truth_kHC = as_series["input_0"], as_series["reference_0"], as_series.get("target")
    outputs = [(a.recipe, colours[a.target], as_series[key]) for a in drawn if (key := f"{a.golden}_0") in as_series]
    outputs = [
        (name, colour, output_kHC) for name, colour, output_kHC in outputs if output_kHC.shape == reference_kHC.shape
    ]
    recipes = list(dict.fromkeys(name for name, _, _ in outputs))
    spread_C = reference_kHC.std((0, 1)) + 1e-12
    strayed_C = np.nan_to_num(
        np.max([np.abs(o - reference_kHC).max((0, 1)) / spread_C for _, _, o in outputs] or [0 * spread_C], 0)
    )
    channels = sorted(np.argsort(-strayed_C, kind="stable")[:MAX_CHANNELS].tolist())
    shown = max(reference_kHC.shape[1] // 2, 24)
    panels = []
    for k in range(min(len(reference_kHC), MAX_SAMPLES)):
        for c in channels:
            truth_H = None if truth_kHC is None or truth_kHC.shape != reference_kHC.shape else truth_kHC[k, :, c]
            times = _times(manifest, k, shown + reference_kHC.shape[1])
            moment = f"{times.start:%Y-%m-%d %H:%M}" if times else f"sample {k + 1}"
            caption = f"{columns[c]}, {moment}"
            strips = [(name, [(colour, o[k, :, c]) for of, colour, o in outputs if of == name]) for name in recipes]
            alt = f"Forecast of {caption}: {len(outputs)} artifacts beside the float model" + (
                " and the truth" * (truth_H is not None)
            )
            picture = plots.forecast(
                history_kLC[k, -shown:, c],
                truth_H,
                reference_kHC[k, :, c],
                strips,
                alt,
                band=[level_kHC[k, :, c] for level_kHC in bands],
                times=times,
                unit=words.unit(columns[c]),
            )
            panels.append({"caption": caption, "svg": Markup(picture)})
    return panels


def _times(manifest: Manifest, sample: int, rows: int) -> plots.Times | None:
    """When the forecast of a golden sample begins; None where the manifest says no time that can be drawn."""
    model = manifest.model
    if not model.step or sample >= len(model.starts):
        return None
    try:
        times = plots.Times(start=datetime.fromisoformat(model.starts[sample]), step=timedelta(seconds=model.step))
        ends = times.of(np.array([-rows, rows]))
    except (ValueError, OverflowError):
        return None
    return times if times.step and YEARS[0] <= ends[0].year < ends[1].year + 1 <= YEARS[1] else None


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
