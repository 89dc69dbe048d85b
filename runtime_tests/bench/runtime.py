"""The reference executor of Core ML programs against the same model in eager torch."""

import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from runtime_tests.bench.measure import Row, Section, answer, check, fresh, interleaved

ROUNDS, BURST = 30, 5
RECIPES = {"fp32": "fp32", "static_wi8_ai8": "static int8"}
TOLERANCE = 1e-4  # of the largest output
MIN_SQNR_DB = 15.0


def run(rounds: int = ROUNDS) -> Section:
    """Minimum over interleaved rounds, in a process of its own."""
    with TemporaryDirectory() as folder:
        _, best = fresh("runtime", str(rounds), folder=Path(folder))
    rows = [
        Row(what=f".mlpackage {label}", ours=best[recipe] * 1e3, rival=best["eager"] * 1e3, unit="ms")
        for recipe, label in RECIPES.items()
    ]
    return Section(
        title="Core ML reference executor against eager torch",
        how=(
            f"The model (a) above. One thread, minimum of {rounds} interleaved rounds of {BURST} calls. The executor "
            "computes the saved program with torch, one operation after another; this says how long judging takes, "
            "and nothing about a phone."
        ),
        rows=rows,
    )


def main(rounds: int, folder: Path) -> None:
    """Write the packages, compare, time."""
    import torch

    from edgepass import pipeline
    from edgepass.exporters import Job, _capture
    from edgepass.judging import parity
    from edgepass.plan import Plan
    from edgepass.runtimes import coreml
    from runtime_tests.bench.models import forecaster

    torch.set_num_threads(1)
    subject = forecaster()
    program = _capture.capture(subject.model, subject.args)
    plan = Plan.of(("coreml",), tuple(RECIPES))
    pipeline.write({"": partial(Job, program, calibration=lambda: subject.calibration)}, plan, "ours", folder)
    paths = [folder / f"ours.{recipe}.mlpackage" for recipe in RECIPES]
    coreml.prepare(paths[0])
    x = subject.args[0].numpy()
    with torch.inference_mode():
        reference = subject.model(*subject.args).numpy()
        calls: dict[str, Any] = {"eager": lambda: subject.model(*subject.args)}
        for recipe, path in zip(RECIPES, paths, strict=True):
            session = coreml.load(path, 1)
            judged = parity.compare(reference, np.asarray(session([x])[0]))
            close = judged.max_abs <= TOLERANCE * np.abs(reference).max()
            check(close if recipe == "fp32" else judged.sqnr_db >= MIN_SQNR_DB, f"{recipe}: {judged}")
            calls[recipe] = lambda session=session: session([x])
        seconds = interleaved(calls, rounds=rounds, burst=BURST)
    answer(folder, **{name: min(values) for name, values in seconds.items()})


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
