"""python -m runtime_tests.bench.scaling: latency and memory of one pass against length, each mixer and a transformer.

Every pass has the same width and channel mixer; the rival is torch's own TransformerEncoderLayer. Each is written as a
float32 .pte by the same exporter, and run from the file, on one thread, in a process of its own.
"""

import datetime
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import msgspec
import numpy as np
import torch
from torch import nn

from edgepass import catalog, exporters
from edgepass.errors import EdgepassError
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.judging import files
from edgepass.models.config import PassConfig
from edgepass.models.parts import Tokens
from edgepass.models.passes import Pass
from edgepass.quantize import recipe
from edgepass.runtimes import _child

HERE = Path(__file__).parent
KEPT, PLOT = HERE / "scaling.json", HERE / "scaling.svg"
LENGTHS = (96, 336, 720, 2048, 8192)
DIM, HEADS, RATIO, ROWS = 32, 4, 2.0, 8
RIVAL = "transformer"
MOST_BYTES = 400_000_000
"""Of a file; a mixer whose constants grow past this is not for sequences of that length."""
POINT_SECONDS = 600
FLAT = 1.5
"""Greatest exponent of latency over length that counts as scaling."""
CLEARLY = 0.9
"""A latency further below the rival's than noise puts it."""


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One model at one length. Where it did not run, `reason` says why."""

    mixer: str
    length: int
    p50_us: float | None = None
    peak_bytes: int | None = None
    bytes: int | None = None
    reason: str | None = None


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """All points, and when they were measured."""

    date: str
    points: tuple[Point, ...]


def model(mixer: str, length: int) -> nn.Module:
    """One pass over `length` tokens; mixers of grids get them as ROWS rows."""
    if mixer == RIVAL:
        hidden = round(DIM * RATIO)
        return nn.TransformerEncoderLayer(DIM, HEADS, hidden, 0.0, "gelu", batch_first=True, norm_first=True)
    config = PassConfig(mixer={"name": mixer}, channel_mixer={"name": "feed_forward", "ratio": RATIO})
    gridded = "embedding" in getattr(catalog.load("mixers", mixer), "EXAMPLE", {})
    return Pass(Tokens((ROWS, length // ROWS) if gridded else (length,), DIM), config)


def measure(mixer: str, length: int) -> Point:
    """Write it, run it."""
    torch.manual_seed(0)
    x_BND = torch.randn(1, length, DIM)
    try:
        made = model(mixer, length).eval()
        size = sum(t.numel() * t.element_size() for t in (*made.parameters(), *made.buffers()))
        if size > MOST_BYTES:
            return Point(mixer=mixer, length=length, reason=f"{size / 1e6:,.0f} MB of constants")
        with TemporaryDirectory(prefix="edgepass-scaling-") as folder:
            path = Path(folder) / "pass.pte"
            exporters.export("executorch", Job(capture(made, (x_BND,)), recipe.read("fp32")), path)
            if files.size(path) > MOST_BYTES:
                return Point(mixer=mixer, length=length, reason=f"a file of {files.size(path) / 1e6:,.0f} MB")
            done = _child.run("executorch", path, [x_BND.numpy()[None]])
            with torch.inference_mode():
                expected = made(x_BND).numpy()
            if not np.allclose(done.outputs[0][0], expected, rtol=1e-3, atol=1e-3):
                return Point(mixer=mixer, length=length, reason="the file's outputs are not the model's")
            return Point(
                mixer=mixer,
                length=length,
                p50_us=round(done.latency.p50_us, 1),
                peak_bytes=done.peak_bytes,
                bytes=files.size(path),
            )
    except (EdgepassError, MemoryError) as error:
        return Point(mixer=mixer, length=length, reason=str(error) or "no memory")


def read() -> "Summary | None":
    """What is kept, for the catalogue."""
    return Summary(msgspec.json.decode(KEPT.read_bytes(), type=Kept)) if KEPT.exists() else None


class Summary:
    """The claim that a mixer scales to long sequences, held against the transformer of the same script."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        self.points = {(p.mixer, p.length): p for p in kept.points}
        self.mixers = list(dict.fromkeys(p.mixer for p in kept.points))

    @property
    def text(self) -> str:
        """A table in Markdown: latency, memory, growth, and whether the claim is true."""
        head = [
            f"One pass of width {DIM} in float32 as a .pte, one thread of this host, {self.kept.date}; latency and "
            "peak memory at each length. The exponent is the slope of log latency over log length from "
            f"{LENGTHS[1]} tokens to the longest that ran. A mixer scales where, at the longest length, its latency is "
            f"below {CLEARLY:.0%} of the transformer's and its memory below the transformer's, and its exponent is "
            f"{FLAT} or less, halfway between linear and square.",
            "",
            f"| mixer | {' | '.join(f'{n} tokens' for n in LENGTHS)} | exponent | scales |",
            f"|---|{'---:|' * len(LENGTHS)}---:|---|",
        ]
        return "\n".join([*head, *(self._line(m) for m in self.mixers)])

    def _line(self, mixer: str) -> str:
        cells = " | ".join(_cell(self.points.get((mixer, n))) for n in LENGTHS)
        slope = self.exponent(mixer)
        return f"| {mixer} | {cells} | {'-' if slope is None else f'{slope:.2f}'} | {self.verdict(mixer)} |"

    def exponent(self, mixer: str) -> float | None:
        """Slope of log latency over log length; None where fewer than two lengths ran."""
        found = [(n, p.p50_us) for n in LENGTHS[1:] if (p := self.points.get((mixer, n))) and p.p50_us]
        if len(found) < 2:
            return None
        (n0, t0), (n1, t1) = found[0], found[-1]
        return math.log(t1 / t0) / math.log(n1 / n0)

    def verdict(self, mixer: str) -> str:
        """Whether the claim is true of this mixer."""
        if mixer == RIVAL:
            return ""
        ours, rival = self.points.get((mixer, LENGTHS[-1])), self.points.get((RIVAL, LENGTHS[-1]))
        if ours is None or ours.p50_us is None or ours.peak_bytes is None:
            return "untrue: the longest does not run"
        if rival is None or rival.p50_us is None or rival.peak_bytes is None:
            return "true: the transformer's longest does not run"
        slope = self.exponent(mixer)
        faster, smaller = ours.p50_us < CLEARLY * rival.p50_us, ours.peak_bytes < rival.peak_bytes
        flat = slope is not None and slope <= FLAT
        if faster and smaller and flat:
            return "true"
        missing = [text for holds, text in ((faster, "no faster"), (smaller, "larger"), (flat, "steep")) if not holds]
        return f"untrue: {', '.join(missing)}"


def _cell(point: Point | None) -> str:
    if point is None:
        return "-"
    if point.p50_us is None or point.peak_bytes is None:
        return point.reason or "-"
    latency = f"{point.p50_us / 1e3:.2f} ms" if point.p50_us < 1e5 else f"{point.p50_us / 1e6:.2f} s"
    return f"{latency}, {point.peak_bytes / 1e6:.0f} MB"


def plot(summary: Summary) -> None:
    """scaling.svg: the transformer in black, mixers for which the claim is true in colour, the others grey."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "edgepass"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(13, 6), layout="constrained")
    colours = plt.get_cmap("tab20").colors  # type: ignore[attr-defined]  # of the listed colour maps only
    for number, mixer in enumerate(summary.mixers):
        holds = summary.verdict(mixer).startswith("true")
        style = {"color": "black", "lw": 2.5} if mixer == RIVAL else {"color": colours[number % 20], "lw": 1.5}
        style["ls"] = "-" if holds or mixer == RIVAL else ":"
        for axis, unit, get in (
            (axes[0], 1e3, lambda p: p.p50_us),
            (axes[1], 1e6, lambda p: p.peak_bytes),
        ):
            found = [(n, get(p) / unit) for n in LENGTHS if (p := summary.points.get((mixer, n))) and get(p)]
            if found:
                axis.loglog(*zip(*found, strict=True), marker="o", ms=3, label=mixer, **style)
    for axis, title in zip(axes, ("latency, ms", "peak memory, MB"), strict=True):
        axis.set(xlabel="tokens", title=f"{title} (host runtime)", xticks=LENGTHS, xticklabels=LENGTHS)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), title="dotted: does not scale")
    figure.savefig(PLOT, metadata={"Date": None})


@click.command()
@click.argument("mixers", nargs=-1)
@click.option("--here", is_flag=True, help="In this process, and only print.")
def main(mixers: Sequence[str], here: bool) -> None:
    """Measure the mixers that are named, or all and the transformer; the others' points are kept."""
    known = [RIVAL, *catalog.names("mixers")]
    if here:
        for mixer in mixers:
            for length in LENGTHS:
                click.echo(msgspec.json.encode(measure(mixer, length)).decode())
        return
    kept = read()
    points = {} if kept is None else {k: p for k, p in kept.points.items() if k[0] in known}
    for mixer in mixers or known:
        for point in _in_a_process(mixer):
            points[mixer, point.length] = point
            click.echo(f"{mixer} {point.length}: {_cell(point)}")
    ordered = tuple(points[m, n] for m in known for n in LENGTHS if (m, n) in points)
    found = Kept(date=datetime.date.today().isoformat(), points=ordered)
    KEPT.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    plot(Summary(found))


def _in_a_process(mixer: str) -> list[Point]:
    done = subprocess.run(
        [sys.executable, "-m", "runtime_tests.bench.scaling", "--here", mixer],
        capture_output=True,
        text=True,
        timeout=POINT_SECONDS * len(LENGTHS),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    found = [msgspec.json.decode(line, type=Point) for line in done.stdout.splitlines() if line.startswith("{")]
    died = [n for n in LENGTHS if n not in {p.length for p in found}]
    return found + [Point(mixer=mixer, length=n, reason="the process died") for n in died]


if __name__ == "__main__":
    main()
