"""The report's plots: inline SVG panels that take colours and type from the page, so that dark mode works.

No text of the user's enters a plot; names are in the captions around it. k samples, H forecast steps.
"""

import hashlib
import io
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Stand-ins that become the page's CSS variables.
INK, MUTED, RULE = "#010203", "#040506", "#070809"
_VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", RULE: "var(--rule)"}
# Each has contrast of 3:1 or more with both the light and the dark paper (WCAG 2.2, 1.4.11).
COLOURS = ("#3b7dd8", "#d0661a", "#1f9254", "#9a5fd0", "#cf4a86", "#1590a0", "#8a8420", "#b5573f")
DASHES: tuple[tuple[float, ...], ...] = ((), (4, 2), (1, 1.5), (6, 1.5, 1, 1.5), (2, 2), (8, 3))
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
MAX_VECTOR_POINTS = 2000
_RC: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edgepass",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "text.color": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.formatter.limits": (-3, 4),
}


@dataclass(frozen=True, kw_only=True)
class Style:
    """How one artifact is drawn, everywhere: the colour is its target, the dashes are its recipe."""

    colour: str
    dash: tuple[float, ...]

    @property
    def dasharray(self) -> str:
        """For an SVG line of width 2."""
        return " ".join(f"{2 * length:g}" for length in self.dash) or "none"


def styles(names: Sequence[tuple[str, str]]) -> list[Style]:
    """A style for each (target, recipe), in order."""
    targets, recipes = (list(dict.fromkeys(column)) for column in zip(*names, strict=True)) if names else ([], [])
    return [
        Style(
            colour=COLOURS[targets.index(target) % len(COLOURS)],
            dash=DASHES[recipes.index(recipe) % len(DASHES)],
        )
        for target, recipe in names
    ]


@rc_context(_RC)
def forecast(
    history_L: Floats,
    truth_H: Floats | None,
    reference_H: Floats,
    outputs: Sequence[tuple[Style, Floats]],
    alt: str,
    band: Sequence[Floats] = (),
) -> str:
    """History, truth, float forecast and each artifact's; below, what each artifact adds to the float forecast.

    `band` is the lowest and the highest level of the float forecast, where it has several.
    """
    figure = _figure()
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.25))
    past, ahead = np.arange(1 - len(history_L), 1), np.arange(1, len(reference_H) + 1)
    point = "." if len(reference_H) < 3 else ""
    above.axvline(0.5, color=MUTED, linewidth=0.6, linestyle=(0, (2, 2)))
    above.plot(past, history_L, color=MUTED, linewidth=0.9)
    if band:
        above.fill_between(ahead, band[0], band[1], color=MUTED, alpha=0.18, linewidth=0.0)
    if truth_H is not None:
        above.plot(ahead, truth_H, color=INK, linewidth=1.6, marker=point)
    above.plot(ahead, reference_H, color=MUTED, linewidth=3.2, alpha=0.45, marker=point, solid_capstyle="round")
    for style, output_H in outputs:
        shape: Any = {"color": style.colour, "linewidth": 1.0, "linestyle": (0, style.dash or (1, 0)), "marker": point}
        above.plot(ahead, output_H, **shape)
        below.plot(ahead, output_H - reference_H, **shape)
    below.axhline(0.0, color=MUTED, linewidth=0.6)
    below.set_xlabel("steps from now")
    below.set_ylabel("file \N{MINUS SIGN} float")
    below.locator_params(axis="y", nbins=3)
    below.locator_params(axis="x", nbins=6)
    figure.align_ylabels()
    return _svg(figure, alt)


@rc_context(_RC)
def scatter(reference: Floats, output: Floats, style: Style, alt: str) -> str:
    """An artifact's outputs against the float model's, element by element; equal ones lie on the diagonal."""
    kept = np.isfinite(reference) & np.isfinite(output)
    reference, output = reference[kept], output[kept]
    figure = _figure()
    axes = figure.subplots()
    if len(reference):
        ends = [float(min(reference.min(), output.min())), float(max(reference.max(), output.max()))]
        axes.plot(ends, ends, color=MUTED, linewidth=0.8)
    many = len(reference) > MAX_VECTOR_POINTS
    dots: Any = {"markersize": 3.0, "markeredgewidth": 0.0, "alpha": 0.6, "color": style.colour}
    axes.plot(reference, output, ".", rasterized=many, **dots)
    axes.set_xlabel("float model")
    axes.set_ylabel("artifact")
    return _svg(figure, alt)


@rc_context(_RC)
def histogram(
    edges: Sequence[float], counts: Sequence[int], limits: tuple[float, float] | None, style: Style, alt: str
) -> str:
    """Share of the outputs by absolute error. `limits`: common ends of a logarithmic axis; None for a linear one."""
    figure = _figure(1.7)
    axes = figure.subplots()
    share = 100.0 * np.asarray(counts, dtype=np.float64) / max(sum(counts), 1)
    bounds = np.asarray(edges, dtype=np.float64)
    if limits:
        axes.set_xscale("log")
        axes.set_xlim(*limits)
        axes.xaxis.set_major_locator(LogLocator(numticks=6))
        axes.xaxis.set_major_formatter(lambda value, _: "10" + f"{math.log10(value):.0f}".translate(_SUPERSCRIPTS))
        axes.xaxis.set_minor_locator(NullLocator())
        bounds = np.maximum(bounds, limits[0])
    axes.stairs(share, bounds, fill=True, color=style.colour, alpha=0.75)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("absolute error")
    axes.set_ylabel("% of outputs")
    axes.locator_params(axis="y", nbins=4)
    return _svg(figure, alt)


def is_logarithmic(edges: Sequence[float]) -> bool:
    """Whether the bins grow, so that only a logarithmic axis shows them."""
    widths = np.diff(np.asarray(edges, dtype=np.float64))
    return len(widths) > 2 and bool(widths[-1] > 4.0 * widths[1] > 0.0)


def _figure(height: float = 2.5) -> Figure:
    return Figure(figsize=(3.6, height), layout="constrained")


def _svg(figure: Figure, alt: str) -> str:
    """The figure as SVG fit for a page: no namespaces or fixed size; ids only where needed, and unlike."""
    for axes in figure.axes:
        axes.patch.set_visible(False)
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))  # so that equal plots are equal bytes
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing, dpi=160)
    text = buffer.getvalue()
    root = ET.fromstring(text)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))
    own = "p" + hashlib.sha256((alt + text).encode()).hexdigest()[:8] + "-"
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for key, value in list(element.attrib.items()):
            del element.attrib[key]
            name = key.rpartition("}")[2]
            if name == "id":
                if value in used:
                    element.set(name, own + value)
            elif name == "href" and value.startswith("#"):
                element.set(name, f"#{own}{value[1:]}")
            else:
                element.set(name, _themed(value.replace("url(#", f"url(#{own}")))
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", alt)
    return ET.tostring(root, encoding="unicode")


def _themed(value: str) -> str:
    for stand_in, variable in _VARIABLES.items():
        value = value.replace(stand_in, variable)
    # The page's own type instead of the one that matplotlib measured with.
    return re.sub(r"font: ([\d.]+px)[^;]*", r"font-size: \1; font-family: inherit", value)
