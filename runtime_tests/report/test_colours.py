"""Plots and text stand out on light and on dark paper."""

import re
from pathlib import Path

import numpy as np
import pytest

from edgepass.report import page as pages
from edgepass.report import plots


@pytest.mark.parametrize("paper", ["#fbfbf9", "#101418", "#171c22", "#ffffff"])
def test_plot_colours_stand_out_on_light_and_dark_paper(paper: str) -> None:
    assert min(contrast(colour, paper) for colour in plots.COLOURS) >= 3.0


def test_text_colours_meet_aa_in_both_schemes() -> None:
    css = (Path(pages.__file__).parent / "style.css").read_text()
    schemes = re.findall(r":root \{(.*?)\}", css, re.S)[:2]
    assert len(schemes) == 2
    for scheme in schemes:
        colour = dict(re.findall(r"--([\w-]+): (#\w+);", scheme))
        pairs = [(ink, paper) for ink in ("ink", "muted", "accent", "unknown") for paper in ("paper", "card")]
        pairs += [(v, f"{v}-paper") for v in ("pass", "fail", "unknown")]
        pairs += [("ink", f"{v}-paper") for v in ("pass", "fail", "unknown")]
        for ink, paper in pairs:
            assert contrast(colour[ink], colour[paper]) >= 4.5, (ink, paper)


def contrast(a: str, b: str) -> float:
    """Contrast ratio of two sRGB colours (WCAG 2.2, relative luminance)."""

    def luminance(colour: str) -> float:
        rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)
