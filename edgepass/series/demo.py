"""The demo: real data leaves as six judged files."""

from collections.abc import Callable
from pathlib import Path

from edgepass import pipeline, source
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import Manifest
from edgepass.plan import Plan
from edgepass.series import vic_elec as data
from edgepass.series.fit import FitResult, fit

CSV, RUN, OUT = "vic_elec.csv", "run", "out"
HORIZON, LOOKBACK = 48, 336  # a day and a week of half hours
RECIPES = ("static_wi8_ai8", "fp16")
BOUNDS = Gates(max_metric_drop=0.01)


def run(
    folder: Path, *, progress: Callable[[int, int, float, float], None], say: Callable[[str], None]
) -> tuple[FitResult, Manifest]:
    """Fit, export and judge in `folder`, replacing what an earlier demo left there."""
    plan = Plan.of((), RECIPES)
    folder.mkdir(parents=True, exist_ok=True)
    say("half-hourly electricity demand of Victoria, 2012 to 2014")
    csv = data.write_csv(folder / CSV)
    fitted = fit(csv, horizon=HORIZON, lookback=LOOKBACK, out=folder / RUN, overwrite=True, progress=progress)
    task = source.load(str(folder / RUN))
    return fitted, pipeline.export(task, plan, folder / OUT, BOUNDS, overwrite=True, say=say)
