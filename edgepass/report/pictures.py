"""What is drawn of a manifest and its golden samples: forecasts, outputs and errors, each with its caption.

k golden samples, L history steps, H forecast steps, C series.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepass.judging.manifest import ArtifactRecord, Manifest
from edgepass.report import plots

MAX_SAMPLES, MAX_CHANNELS, MAX_OUTPUTS = 4, 3, 2
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
    """Every plot with its caption, and the style that each artifact has in all of them."""
    from markupsafe import Markup

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
