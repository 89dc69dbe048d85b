"""fit: a CSV file in, a trained forecaster with its baselines out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import msgspec
import numpy as np

from edgepass import __version__, models, staging
from edgepass.errors import InputError
from edgepass.models import config as configs
from edgepass.series import baselines, run, windows
from edgepass.series import levels as quantiles
from edgepass.series.baselines import Score
from edgepass.series.levels import LevelScore
from edgepass.series.table import Series, read_csv
from edgepass.series.windows import Floats

EPOCHS, BATCH = 10, 256


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """What came of it. `rows` are test errors in scaled units: naive, seasonal naive if any, ridge, the model.

    Of a model that forecasts several levels, the row is its median's, and `levels` tell how well each was kept.
    """

    folder: Path
    rows: tuple[Score, ...]
    parameters: int
    epochs: int
    best_epoch: int
    """0 when no epoch was better on validation than the ridge regression that training starts from."""
    notes: tuple[str, ...]
    levels: tuple[LevelScore, ...] = ()


def fit(
    csv: Path,
    *,
    horizon: int,
    out: Path,
    lookback: int = 336,
    time_column: str | None = None,
    columns: Sequence[str] | None = None,
    preset: str = "single-s",
    passes: int | None = None,
    split: str = "70/10/20",
    seed: int = 0,
    epochs: int = EPOCHS,
    batch: int = BATCH,
    overwrite: bool = False,
    progress: Callable[[int, int, float, float], None] | None = None,
) -> FitResult:
    """Train a forecaster of `horizon` rows from `lookback` rows, and write it to the folder `out` (see run.py).

    `passes`: how many, where the preset is a stack. `split`: "70/10/20" or "ett". `batch` counts windows of one
    column. `progress` is called after each epoch with its number, the number of epochs, training and validation loss
    (scaled mean squared errors). Training that was killed continues when the same call is made again, to the same
    bits. Raises InputError for data or settings that cannot be used, for a finished folder unless `overwrite`, and for
    one that another call left unfinished.
    """
    import torch

    from edgepass.models import training
    from edgepass.models.forecaster import ROUNDING_STEP
    from edgepass.models.truncation import with_passes

    for what, value in (("epochs", epochs), ("batch", batch), ("seed", seed)):
        if value < (what == "batch"):
            raise InputError(f"{what} is {value}; it must be at least {int(what == 'batch')}")
    series = read_csv(csv, time_column, columns)
    borders = windows.split(series, split, lookback=lookback, horizon=horizon)
    scaler = windows.fit_scaler(series, borders.train)
    config = configs.read(preset) if passes is None else with_passes(configs.read(preset), passes)
    settings = training.Settings(epochs=epochs, batch=batch, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = models.create(config, lookback=lookback, horizon=horizon, channels=len(series.columns))
    command = {
        "data": series.sha256,
        "columns": series.columns,
        "lookback": lookback,
        "horizon": horizon,
        "preset": msgspec.to_builtins(config),
        "split": split,
        "settings": msgspec.to_builtins(settings),
        "versions": _versions(),
    }
    _claim(out, command, overwrite=overwrite)

    scaled_TC = scaler.scale(series.values_TC)
    parts = [
        windows.windows(scaled_TC, rows, lookback=lookback, horizon=horizon)
        for rows in (borders.train, borders.validation, borders.test)
    ]
    floor = baselines.ridge(parts[0], parts[1])
    model.set_scaler(scaler.mean, scaler.std)
    start = baselines.ridge(parts[0], parts[1], least=ROUNDING_STEP**2 / 12)
    model.start_from(torch.from_numpy(start.weight_HL))
    raw_TC = series.values_TC.astype(np.float32)
    with staging.alone(out):
        state = training.train(
            model,
            torch.from_numpy(raw_TC),
            (borders.train, borders.validation),
            settings,
            file=out / run.STATE,
            command=command,
            write=staging.write,
            progress=progress,
        )

    def every_level(x_NLC: Floats) -> Floats:
        with torch.inference_mode():
            return scaler.scale(model(torch.from_numpy(np.ascontiguousarray(x_NLC))).numpy())

    def forecast(x_NLC: Floats) -> Floats:
        return quantiles.median(every_level(x_NLC), model.levels) if model.levels else every_level(x_NLC)

    raw_inputs, _ = windows.windows(raw_TC, borders.test, lookback=lookback, horizon=horizon)
    rows = (
        *_simple(series, parts[1], parts[2]),
        baselines.score("ridge", floor, *parts[2]),
        baselines.score(config.name, forecast, raw_inputs, parts[2][1]),
    )
    levels = quantiles.scores(model.levels, every_level, raw_inputs, parts[2][1]) if model.levels else ()
    spec = run.Spec(
        config=config,
        lookback=lookback,
        horizon=horizon,
        columns=series.columns,
        time_column=series.time_column,
        step=series.step,
        data=series.name,
        data_sha256=series.sha256,
        rows=len(series),
        split=split,
        borders=borders,
        scaler=scaler,
        seed=seed,
        epochs=state.epoch,
        best_epoch=state.best_epoch,
        parameters=model.parameter_count(),
        metrics=rows,
        levels=levels,
        versions=_versions(),
    )
    notes = (*series.notes, _against_ridge(rows[-1], rows[-2]))
    if state.best_epoch == 0:
        notes += (f"no epoch was better on validation than ridge, so {config.name} forecasts what ridge does",)
    run.write(out, spec, model, series.values_TC, series.times_T)
    (out / run.STATE).unlink(missing_ok=True)
    return FitResult(
        folder=out,
        rows=rows,
        parameters=spec.parameters,
        epochs=state.epoch,
        best_epoch=state.best_epoch,
        notes=notes,
        levels=levels,
    )


def _simple(series: Series, validation: tuple[Floats, Floats], test: tuple[Floats, Floats]) -> list[Score]:
    """The last value, and the last season where one is known: the season that is best on validation."""
    lookback, horizon = validation[0].shape[1], validation[1].shape[1]
    scores = [baselines.score("naive", baselines.naive(horizon), *test)]
    if seasons := [s for s in series.seasons if s <= lookback]:
        forecasts = {s: baselines.seasonal(s, horizon) for s in seasons}
        best = min(seasons, key=lambda s: baselines.score("", forecasts[s], *validation).mse)
        scores.append(baselines.score(f"seasonal naive ({best})", forecasts[best], *test))
    return scores


def _against_ridge(model: Score, ridge: Score) -> str:
    """Said after every fit: ridge is the floor that a model must beat to have a claim."""
    change = model.mse / ridge.mse - 1.0
    verdict = "beats" if change < 0 else "does not beat"
    return f"{model.name} {verdict} ridge on test: its MSE is {abs(change):.1%} {'lower' if change < 0 else 'higher'}"


def _claim(out: Path, command: dict[str, Any], *, overwrite: bool) -> None:
    """Make `out` ready to train in, or refuse it."""
    from edgepass.models import training

    if (out / run.SPEC).exists() and not overwrite:
        raise InputError(f"{out} already holds a finished run; name another folder, or replace it with --overwrite")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} cannot be made a folder: {error.strerror}; name another with -o") from None
    ours = {run.SPEC, run.MODEL, run.SERIES, run.STATE}
    if others := sorted(f.name for f in out.iterdir() if f.name not in ours and not f.name.startswith(".")):
        raise InputError(f"{out} holds other files ({', '.join(others[:3])}); name a new folder with -o")
    try:
        training.read(out / run.STATE, command)
    except InputError:
        if not overwrite:
            raise
        (out / run.STATE).unlink()


def _versions() -> dict[str, str]:
    return {"edgepass": __version__, "python": python_version(), **{name: version(name) for name in ("numpy", "torch")}}
