"""The report's plots: inline SVG panels that take colours and type from the page, so that dark mode works.

No text of the user's is ever drawn by matplotlib: it is put into the finished SVG, and escaped there. H forecast steps.
"""

import hashlib
import io
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray

from edgepass.errors import one_line

Floats = NDArray[np.float64]

# Stand-ins that become the page's CSS variables.
INK, MUTED, RULE = "#010203", "#040506", "#070809"
_VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", RULE: "var(--rule)"}
# Each has contrast of 3:1 or more with both the light and the dark paper (WCAG 2.2, 1.4.11).
COLOURS = ("#3b7dd8", "#d0661a", "#1f9254", "#9a5fd0", "#cf4a86", "#1590a0", "#8a8420", "#b5573f")
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
MAX_VECTOR_POINTS = 2000
VISIBLE = 0.02
"""Of the height of a panel: less cannot be told apart in it."""
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


def colours(targets: Sequence[str]) -> dict[str, str]:
    """The colour that each target has everywhere."""
    return {target: COLOURS[place % len(COLOURS)] for place, target in enumerate(dict.fromkeys(targets))}


@dataclass(frozen=True, kw_only=True)
class Times:
    """When a forecast begins, and how long a row lasts."""

    start: datetime
    step: timedelta

    def of(self, rows: NDArray[np.int_]) -> list[datetime]:
        """The times of rows that are numbered from the first one forecast, 0."""
        return [self.start + int(row) * self.step for row in rows]


@rc_context(_RC)
def forecast(
    history_L: Floats,
    truth_H: Floats | None,
    reference_H: Floats,
    outputs: Sequence[tuple[str, Sequence[tuple[str, Floats]]]],
    alt: str,
    *,
    band: Sequence[Floats] = (),
    times: Times | None = None,
    unit: str = "",
) -> str:
    """History, truth and float forecast; below, a strip for each recipe with what its files add to the float forecast.

    A file is drawn above only where it can be told from the float model there. Files of a strip lie one upon another,
    the first the widest, so that those that agree are seen to. `band` is the lowest and the highest level of the float
    forecast, where it has several. `outputs`: of each recipe its name, and a colour and a
    forecast of each target.
    """
    strips = max(len(outputs), 1)
    figure = _figure(1.9 + 0.85 * strips)
    above, *below = figure.subplots(1 + strips, 1, sharex=True, height_ratios=(2.2, *[1.0] * strips))
    past, ahead = np.arange(-len(history_L), 0), np.arange(len(reference_H))
    x_past, x_ahead, now = (times.of(past), times.of(ahead), times.start) if times else (past + 1, ahead + 1, 0.5)
    point = "." if len(reference_H) < 3 else ""
    above.axvline(now, color=MUTED, linewidth=0.6, linestyle=(0, (2, 2)))
    above.plot(x_past, history_L, color=MUTED, linewidth=0.9)
    if band:
        above.fill_between(x_ahead, band[0], band[1], color=MUTED, alpha=0.18, linewidth=0.0)
    if truth_H is not None:
        above.plot(x_ahead, truth_H, color=INK, linewidth=1.4, marker=point)
    above.plot(x_ahead, reference_H, color=MUTED, linewidth=3.2, alpha=0.45, marker=point, solid_capstyle="round")
    low, high = above.get_ylim()
    texts = {f"@{number}": name for number, (name, _) in enumerate(outputs)} | {"@unit": unit}
    for number, (axes, (_, files)) in enumerate(zip(below, outputs, strict=False)):
        for place, (colour, output_H) in enumerate(files):
            width = 0.9 + 1.6 * (len(files) - 1 - place)
            axes.plot(x_ahead, output_H - reference_H, color=colour, linewidth=width, marker=point)
            if np.abs(output_H - reference_H).max(initial=0.0) > VISIBLE * (high - low):
                above.plot(x_ahead, output_H, color=colour, linewidth=1.0, marker=point)
        axes.set_title(f"@{number}", loc="left", fontsize=7.5, color=MUTED, pad=2.0)
    for axes in below:
        axes.axhline(0.0, color=MUTED, linewidth=0.6, zorder=1.0)
        axes.locator_params(axis="y", nbins=3)
    if unit:
        above.set_ylabel("@unit")
    below[-1].set_ylabel("file \N{MINUS SIGN} float")
    if times:
        locator = AutoDateLocator(minticks=3, maxticks=6)  # type: ignore[no-untyped-call]  # matplotlib has no types here
        below[-1].xaxis.set_major_locator(locator)
        below[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    else:
        below[-1].set_xlabel("steps from now")
        below[-1].locator_params(axis="x", nbins=6)
    figure.align_ylabels()
    return _svg(figure, alt, texts)


@rc_context(_RC)
def errors(reference: Floats, output: Floats, colour: str, alt: str) -> str:
    """What an artifact adds to the float model's outputs, element by element, by their value; equal ones lie on zero.

    Not one against the other: the errors of a good file would be hidden below the diagonal.
    """
    kept = np.isfinite(reference) & np.isfinite(output)
    reference, output = reference[kept], output[kept]
    figure = _figure()
    axes = figure.subplots()
    axes.axhline(0.0, color=MUTED, linewidth=0.6, zorder=1.0)
    many = len(reference) > MAX_VECTOR_POINTS
    dots: Any = {"markersize": 3.0, "markeredgewidth": 0.0, "alpha": 0.6, "color": colour}
    axes.plot(reference, output - reference, ".", rasterized=many, **dots)
    most = max(map(abs, axes.get_ylim()))
    axes.set_ylim(-most, most)
    axes.set_xlabel("float model's output")
    axes.set_ylabel("file \N{MINUS SIGN} float")
    return _svg(figure, alt)


@rc_context(_RC)
def histogram(
    edges: Sequence[float], counts: Sequence[int], limits: tuple[float, float] | None, colour: str, alt: str
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
    axes.stairs(share, bounds, fill=True, color=colour, alpha=0.75)
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


def _svg(figure: Figure, alt: str, texts: Mapping[str, str] = MappingProxyType({})) -> str:
    """The figure as SVG fit for a page: no namespaces or fixed size; ids only where needed, and unlike.

    `texts`: the words of others, each by its stand-in. They are put in once the figure is drawn.
    """
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
        if element.tag == "text" and (stand_in := element.text or "") in texts:
            element.text = one_line(texts[stand_in], 40)
        for key, value in list(element.attrib.items()):
            del element.attrib[key]
            name = key.rpartition("}")[2]
            if name == "id":
                if value in used:
                    element.set(name, own + value)
            elif name == "href" and value.startswith("#"):
                element.set(name, f"#{own}{value[1:]}")
            elif name in ("d", "x", "y"):
                element.set(name, re.sub(r"(\.\d\d)\d+", r"\1", value))  # hundredths of a pixel are enough
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
