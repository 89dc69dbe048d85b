"""When rows were goes with a series, from the file to the forecasts that are shown of it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from edgepass import source
from edgepass.errors import InputError
from edgepass.series import run
from edgepass.series.fit import fit
from edgepass.series.table import read_csv

ROWS, LOOKBACK, HORIZON = 113, 7, 3


def a_csv(folder: Path, times: pd.DatetimeIndex | range) -> Path:
    values = np.sin(np.arange(ROWS) / 3)
    path = folder / "waves.csv"
    pd.DataFrame({"date": times, "wave [m]": values}).to_csv(path, index=False)
    return path


def a_run(folder: Path, times: pd.DatetimeIndex | range) -> Path:
    fit(a_csv(folder, times), out=folder / "run", horizon=HORIZON, lookback=LOOKBACK, preset="single-xs", epochs=0)
    return folder / "run"


def test_a_run_knows_when_each_forecast_begins(tmp_path: Path) -> None:
    times = pd.date_range("2026-03-29", periods=ROWS, freq="h", tz="Europe/Berlin")  # with the hour that is skipped
    folder = a_run(tmp_path, times)
    loaded = run.load(folder)
    starts, (_, targets) = loaded.starts(), loaded.evaluation()
    assert starts is not None
    assert len(starts) == len(targets)
    utc = times.tz_convert("UTC").tz_localize(None)
    first = loaded.spec.borders.test[0] + LOOKBACK
    assert starts[0] == utc[first].to_numpy()
    assert targets[0, 0, 0, 0] == np.float32(loaded.values_TC[first, 0])
    task = source.load(str(folder), evaluation_samples=2)
    assert task.evaluation is not None
    assert task.evaluation.starts is not None
    assert task.evaluation.starts.tolist() == starts[[0, -1]].tolist()
    assert (task.title, task.step) == ("single-xs: wave [m] of waves.csv, 3 rows ahead", 3600.0)
    again = source.load(str(folder), evaluation=str(tmp_path / "waves.csv"))
    assert again.evaluation is not None
    assert again.evaluation.starts is not None
    assert again.evaluation.starts[0] == utc[LOOKBACK].to_numpy()
    assert len(again.evaluation.starts) == len(again.evaluation)


def test_rows_that_are_only_numbered_have_no_times(tmp_path: Path) -> None:
    assert read_csv(a_csv(tmp_path, range(ROWS))).times_T is None
    assert run.load(a_run(tmp_path, range(ROWS))).starts() is None


def test_times_that_are_not_one_of_each_row_are_refused(tmp_path: Path) -> None:
    loaded = run.load(a_run(tmp_path, pd.date_range("2026-01-01", periods=ROWS, freq="D")))
    assert loaded.times_T is not None
    run.write(loaded.folder, loaded.spec, loaded.model, loaded.values_TC, loaded.times_T[:-1])
    with pytest.raises(InputError, match=r"holds times int64\[112\], not one of each row"):
        run.load(loaded.folder)
