"""python -m runtime_tests.bench.passes: what one more pass costs, on each host runtime, from one to four of them."""

import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import torch

from edgepass import exporters, models
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.judging import files
from edgepass.models import config as configs
from edgepass.quantize import recipe
from edgepass.runtimes import _child

KEPT = Path(__file__).with_suffix(".json")
PRESET, LOOKBACK, HORIZON, CHANNELS = "single-s", 336, 96, 7
TARGETS = ("executorch", "tflite", "onnx")
"""Those with a runtime on this host; Core ML's reference executor says nothing of latency."""
COUNTS = (1, 2, 3, 4)
ROUNDS = 5


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """The float32 file of so many passes: its best median latency of a few rounds, and its memory."""

    target: str
    passes: int
    p50_us: float
    peak_bytes: int
    bytes: int


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """All points, and when they were measured."""

    date: str
    points: tuple[Point, ...]


def measure(target: str) -> list[Point]:
    """Files of one to four passes, timed turn about."""
    x_BLC = torch.randn(1, LOOKBACK, CHANNELS, generator=torch.Generator().manual_seed(0))
    with TemporaryDirectory(prefix="edgepass-passes-") as folder:
        paths = {n: Path(folder) / f"{n}{exporters.target(target).suffix}" for n in COUNTS}
        for count, path in paths.items():
            config = msgspec.structs.replace(configs.read(PRESET), topology={"name": "stack", "repeat": count})
            model = models.create(config, lookback=LOOKBACK, horizon=HORIZON, channels=CHANNELS)
            exporters.export(target, Job(capture(model, (x_BLC,)), recipe.read("fp32")), path)
        rounds = [
            {n: _child.run(exporters.target(target).runtime, p, [x_BLC.numpy()[None]]) for n, p in paths.items()}
            for _ in range(ROUNDS)
        ]
        return [
            Point(
                target=target,
                passes=n,
                p50_us=round(min(r[n].latency.p50_us for r in rounds), 1),
                peak_bytes=min(r[n].peak_bytes for r in rounds),
                bytes=files.size(paths[n]),
            )
            for n in COUNTS
        ]


def read() -> Kept | None:
    """What is kept."""
    return msgspec.json.decode(KEPT.read_bytes(), type=Kept) if KEPT.exists() else None


def text() -> str:
    """A table in Markdown."""
    kept = read()
    if kept is None:
        return "Not measured yet."
    rows = {(p.target, p.passes): p for p in kept.points}
    head = [
        f"The passes of {PRESET}, once and up to {COUNTS[-1]} times, as float32 files for {CHANNELS} channels; best "
        f"median of {ROUNDS} rounds on one thread of this host, and peak memory; {kept.date}.",
        "",
        f"| | {' | '.join(f'{n} pass' if n == 1 else f'{n} passes' for n in COUNTS)} |",
        f"|---|{'---:|' * len(COUNTS)}",
    ]
    for target in TARGETS:
        cells = (rows[target, n] for n in COUNTS)
        shown = " | ".join(f"{c.p50_us:.0f} us, {c.peak_bytes / 1e6:.1f} MB, {c.bytes / 1e3:.0f} kB" for c in cells)
        head.append(f"| {target} | {shown} |")
    return "\n".join(head)


def main() -> None:
    """Measure all of them."""
    points = tuple(point for target in TARGETS for point in measure(target))
    found = Kept(date=datetime.date.today().isoformat(), points=points)
    KEPT.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")


if __name__ == "__main__":
    main()
