"""Latency of our files against the converters' defaults for the same model, in the same runtime, turn about."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from runtime_tests.bench.measure import Row, Section, answer, check, fresh, interleaved

ROUNDS, BURST = 30, 20
FLOAT_TOLERANCE = 1e-4  # of the largest output
SQNR_SLACK_DB = 1.0
DATA = "data.npz"
SUFFIXES = (".pte", ".tflite")
FORMATS = {"fp32": "fp32", "static_wi8_ai8": "static int8"}
TITLES = {
    "forecaster": "(a) preset single-s, 7 channels, lookback 336, horizon 96",
    "transformer": "(b) a plain transformer of two blocks, 96 tokens of width 64, windows of 16",
}
HALF = ("transformer", ".pte", "fp32")
"""Where the aim is half the default's latency."""
REMARKS: dict[str, list[str]] = {
    "forecaster": [],
    "transformer": [
        "Both int8 .tflite files hold the same 127 operators on the same shapes and types; only weights and scales "
        "differ."
    ],
}
HELP = "ExecuTorch's default fails on this model's attention; its rival files have a copy after it, and so convert."


@dataclass(frozen=True)
class Loaded:
    """A file ready to be timed: `call` runs it on inputs that lie there already, `outputs` runs it on samples."""

    call: Callable[[], object]
    outputs: Callable[[Any], Any]


def run(rounds: int = ROUNDS) -> list[Section]:
    """One section a model."""
    return [_section(name, rounds) for name in TITLES]


def _section(name: str, rounds: int) -> Section:
    with TemporaryDirectory() as folder:
        fresh("latency", "convert", name, folder=Path(folder))
        _, said = fresh("latency", "time", str(rounds), folder=Path(folder))
    best, noise, db, same = (said[key] for key in ("best", "noise", "db", "same"))
    rows = []
    for suffix in SUFFIXES:
        for recipe, label in FORMATS.items():
            files = f"ours.{recipe}{suffix}", f"rival.{recipe}{suffix}"
            rows.append(
                Row(
                    what=f"{suffix} {label}",
                    ours=best[files[0]] * 1e6,
                    rival=best[files[1]] * 1e6,
                    unit="us",
                    aim=0.5 if (name, suffix, recipe) == HALF else 1.0,
                    noise=noise[suffix],
                    note=" and ".join(f"{db[file]:.1f}" for file in files) + " dB" + ", equal bytes" * same[files[0]],
                )
            )
    for suffix in SUFFIXES:
        int8, fp32 = (best[f"ours.{recipe}{suffix}"] * 1e6 for recipe in ("static_wi8_ai8", "fp32"))
        rows.append(Row(what=f"{suffix} our int8, our fp32 as the rival", ours=int8, rival=fp32, unit="us"))
    itself = ", ".join(f"{suffix} {noise[suffix]:.1%}" for suffix in SUFFIXES)
    return Section(
        title=f"Latency of {TITLES[name]}",
        how=(
            f"One thread, minimum of {rounds} interleaved rounds of {BURST} calls; inputs are in place, so that only "
            "the runtime is timed. The rival is the converter with its defaults: plain to_edge_transform_and_lower "
            "with XnnpackPartitioner or litert_torch.convert, and for int8 its own PT2E quantiser on the same samples."
        ),
        rows=rows,
        remarks=[
            f"Noise of this run, the most by which files of equal bytes differed: {itself}.",
            HELP,
            *REMARKS[name],
        ],
    )


def convert(name: str, folder: Path) -> None:
    """Write all files of one model, ours and the rivals', and the data to compare them on."""
    import torch

    from edgepass import pipeline
    from edgepass.exporters import Job, _capture
    from edgepass.plan import Plan
    from runtime_tests.bench import rivals
    from runtime_tests.bench.models import SUBJECTS

    subject = SUBJECTS[name]()
    plan = Plan.of(("executorch", "tflite"), tuple(FORMATS))
    program = _capture.capture(subject.model, subject.args)
    pipeline.write({"": partial(Job, program, calibration=lambda: subject.calibration)}, plan, "ours", folder)
    rivals.executorch_float(subject, folder / "rival.fp32.pte")
    rivals.executorch_static(subject, folder / "rival.static_wi8_ai8.pte")
    rivals.tflite_float(subject, folder / "rival.fp32.tflite")
    rivals.tflite_static(subject, folder / "rival.static_wi8_ai8.tflite")
    with torch.inference_mode():
        y = np.stack([subject.model(*args).numpy() for args in subject.held_out])
    np.savez(folder / DATA, x=np.stack([args[0].numpy() for args in subject.held_out]), y=y)
    answer(folder)


def clock(rounds: int, folder: Path) -> None:
    """Load every file, compare what it gives, then time them turn about."""
    import torch

    from edgepass.judging import parity

    torch.set_num_threads(1)
    data = np.load(folder / DATA)
    names = [f"{side}.{recipe}{suffix}" for suffix in SUFFIXES for recipe in FORMATS for side in ("ours", "rival")]
    loaded = {name: _load(folder / name, data["x"][0]) for name in names}
    db = {}
    for name, file in loaded.items():
        judged = parity.compare(data["y"], np.stack([file.outputs(x) for x in data["x"]]))
        db[name] = judged.sqnr_db
        if ".fp32." in name:
            error = judged.max_abs / float(np.abs(data["y"]).max())
            check(error <= FLOAT_TOLERANCE, f"{name} is off by {error:.1e} of the largest output")
    for suffix in SUFFIXES:
        ours, rival = (db[f"{side}.static_wi8_ai8{suffix}"] for side in ("ours", "rival"))
        check(ours >= rival - SQNR_SLACK_DB, f"int8 {suffix} has {ours:.1f} dB, the rival's {rival:.1f}")
    again = {f"again{suffix}": _load(folder / f"rival.fp32{suffix}", data["x"][0]) for suffix in SUFFIXES}
    seconds = interleaved({name: file.call for name, file in (loaded | again).items()}, rounds=rounds, burst=BURST)
    best = {name: min(values) for name, values in seconds.items()}
    pairs = {n: n.replace("ours", "rival") for n in names if n.startswith("ours")}
    same = {ours: (folder / ours).read_bytes() == (folder / rival).read_bytes() for ours, rival in pairs.items()}
    # Files of equal bytes can differ by noise alone; the most that any of them do says how much of it there is.
    equal = {f"again{s}": f"rival.fp32{s}" for s in SUFFIXES} | {n: pairs[n] for n in pairs if same[n]}
    noise = {
        s: max(abs(best[one] / best[other] - 1.0) for one, other in equal.items() if one.endswith(s)) for s in SUFFIXES
    }
    answer(folder, best=best, noise=noise, db=db, same=same)


def _load(path: Path, x: Any) -> Loaded:
    if path.suffix == ".pte":
        import torch

        from edgepass.runtimes import executorch

        executorch.prepare(path)  # which registers the kernels
        session: Any = executorch.load(path, 1)
        tensors = [torch.from_numpy(x)]
        return Loaded(lambda: session.method(tensors), lambda x: session([x])[0])
    from edgepass.runtimes import tflite

    other: Any = tflite.load(path, 1)
    other([x])
    return Loaded(other.interpreter.invoke, lambda x: other([x])[0])


if __name__ == "__main__":
    if sys.argv[1] == "convert":
        convert(sys.argv[2], Path(sys.argv[3]))
    else:
        clock(int(sys.argv[2]), Path(sys.argv[3]))
