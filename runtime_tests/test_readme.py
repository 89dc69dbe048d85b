"""Every command of the README is run, in its order, as a reader would."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from runtime_tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^\$ (.+)$", README, re.MULTILINE)


def test_it_fits_two_screens() -> None:
    assert len(README.splitlines()) <= 100
    assert max(map(len, README.splitlines())) <= 130


def test_make_has_what_it_names() -> None:
    rules = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([\w-]+)", README)) <= rules
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / link).exists(), link


@pytest.mark.export
def test_every_command_does_what_it_says(tmp_path: Path) -> None:
    hours = np.arange(3000)
    demand = 900 + 200 * np.sin(2 * np.pi * hours / 24) + np.random.default_rng(0).normal(0, 20, len(hours))
    times = pd.date_range("2026-01-01", periods=len(hours), freq="h")
    pd.DataFrame({"time": times, "demand": demand}).to_csv(tmp_path / "demand.csv", index=False)
    (block,) = re.findall(r"```python\n(# my_model\.py.+?)```", README, re.DOTALL)
    (tmp_path / "my_model.py").write_text(block)
    assert len(COMMANDS) >= 9
    for command in COMMANDS:
        words = shlex.split(command)
        assert words[0] == "edgepass"
        done = subprocess.run([sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"manifest.json", "golden.safetensors", "report.html", "single-s.static_wi8_ai8.mlpackage"} <= left
