"""What is drawn: times and units where they are known, errors that can be seen, files that agree and are seen to."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepass.judging.manifest import Manifest
from edgepass.judging.verdict import BINS, histogram
from edgepass.report import plots
from runtime_tests.report.manifests import Page, a_forecaster, its_golden, write


def in_time(starts: list[str], step: float | None = 3600.0) -> Manifest:
    made = a_forecaster()
    model = replace(made.model, columns=["load [kW]"], starts=starts, step=step)
    return replace(made, model=model, artifacts=[replace(a, errors=None) for a in made.artifacts[:3]])


def test_forecasts_have_time_stamps_and_units_where_they_are_known(tmp_path: Path) -> None:
    manifest = in_time(["2026-01-30T05:00:00", "2026-03-02T00:00:00"])
    text = write(tmp_path, manifest, its_golden(manifest, k=2))
    assert "load [kW], 2026-01-30 05:00" in Page(text).text
    assert ">2026-Feb</text>" in text
    assert text.count(">kW</text>") == 2
    assert "steps from now" not in text
    assert re.search(r"<text[^>]*>static_wi8_ai8</text>", text)


@pytest.mark.parametrize(
    ("start", "step"),
    [("yesterday", 60.0), ("2026-01-01", float("nan")), ("9999-12-31", 1e9), ("0001-01-01", 60.0), ("2026-01-01", 1e-9),
     ("2026-01-01", 1e300), ("2026-01-01", None)],
)  # fmt: skip
def test_times_that_cannot_be_are_not_drawn(tmp_path: Path, start: str, step: float | None) -> None:
    manifest = in_time([start], step if step == step else None)
    assert "steps from now" in write(tmp_path, manifest, its_golden(manifest, k=1, L=5, H=7))


def test_the_words_of_others_are_escaped_in_a_plot() -> None:
    steps = np.arange(4.0)
    hostile = "</text><script>alert(1)</script>"
    picture = plots.forecast(steps, steps, steps, [(hostile, [("#3b7dd8", steps + 0.1)])], "alt", unit=hostile)
    assert "<script" not in picture
    assert picture.count("&lt;script&gt;") == 2


def test_the_errors_of_a_good_file_are_seen_beside_the_zero_line() -> None:
    """Drawn against each other, reference and output would be one line."""
    rng = np.random.default_rng(0)
    reference = rng.normal(size=500)
    picture = plots.errors(reference, reference + 1e-6 * rng.normal(size=500), "#3b7dd8", "alt")
    heights = [float(y) for y in re.findall(r'<use [^>]*y="([\d.]+)"', picture)]
    assert len(heights) > 500
    assert max(heights) - min(heights) > 60


@given(st.lists(st.floats(0.0, 1e30), min_size=1, max_size=50))
def test_every_error_is_in_a_bin_of_its_magnitude(errors: list[float]) -> None:
    found = histogram([np.zeros(len(errors))], [np.array(errors)])
    assert found is not None
    assert sum(found.counts) == len(errors)
    assert found.edges[0] == 0.0
    assert len(found.counts) == BINS
    if max(errors) > 1e-30:
        growth = np.array(found.edges[2:]) / np.array(found.edges[1:-1])
        np.testing.assert_allclose(growth, growth[0])
