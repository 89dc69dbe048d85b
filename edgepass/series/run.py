"""The RUN/ folder: a trained forecaster with the series it learnt from, enough to calibrate, evaluate and export it.

spec.json says what it is, model.safetensors holds the weights, series.safetensors the numbers. spec.json is written
last and holds the hashes of the other two, so a folder that has one is complete.
Shapes: T rows, L lookback, H horizon, C columns, N windows.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgepass import models, staging
from edgepass.errors import InputError, one_line
from edgepass.judging.manifest import DataInfo, Metric
from edgepass.models.config import Config
from edgepass.samples import spread
from edgepass.series.baselines import Score
from edgepass.series.levels import LevelScore, median
from edgepass.series.windows import Floats, Scaler, Split, windows

if TYPE_CHECKING:
    from torch import Tensor

    from edgepass.models.forecaster import Forecaster

SPEC, MODEL, SERIES, STATE = "spec.json", "model.safetensors", "series.safetensors", "training.safetensors"


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What spec.json says. Fields are only ever added."""

    schema: Literal[1] = 1
    config: Config
    lookback: int
    horizon: int
    columns: tuple[str, ...]
    time_column: str | None
    step: float | None
    """Seconds between rows."""
    data: str
    """Name of the CSV file."""
    data_sha256: str
    rows: int
    split: str
    borders: Split
    scaler: Scaler
    seed: int
    epochs: int
    best_epoch: int
    parameters: int
    metrics: tuple[Score, ...]
    """On the test windows, in scaled units; the last is the model's, or its median's."""
    levels: tuple[LevelScore, ...] = ()
    """Likewise, of a model that forecasts several."""
    versions: dict[str, str]
    files: dict[str, str] = {}
    """SHA-256 of the other files."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A loaded RUN/ folder. The model is in evaluation mode, on the CPU."""

    folder: Path
    spec: Spec
    model: "Forecaster"
    values_TC: NDArray[np.float64]
    times_T: NDArray[np.datetime64] | None = None
    """When each row was, where the series says; in UTC where it names a time zone."""

    @property
    def title(self) -> str:
        """What is forecast, and by what."""
        spec = self.spec
        shown, more = ", ".join(spec.columns[:3]), len(spec.columns) - 3
        series = f"{shown} and {more} more" if more > 0 else shown
        rows = f"{spec.horizon} row{'s' if spec.horizon > 1 else ''}"
        return f"{spec.config.name}: {series} of {spec.data}, {rows} ahead"

    def example_args(self) -> "tuple[Tensor]":
        """Arguments to export with: the first training window, raw, (x_1LC,)."""
        import torch

        return (torch.from_numpy(self.calibration(1)[0]),)

    def calibration(self, samples: int) -> NDArray[np.float32]:
        """Raw windows [n, 1, L, C] spread evenly over the training rows."""
        inputs_NLC, _ = self._windows(self.spec.borders.train)
        return _stack(inputs_NLC, samples)

    def evaluation(self, samples: int | None = None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Raw test windows [n, 1, L, C] and what followed them [n, 1, H, C]: all, or `samples` spread evenly."""
        inputs_NLC, targets_NHC = self._windows(self.spec.borders.test)
        return _stack(inputs_NLC, samples), _stack(targets_NHC, samples)

    def overlap(self, samples: int | None = None) -> int:
        """How many neighbours among the windows that `evaluation` gives forecast some row in common."""
        count = len(self._windows(self.spec.borders.test)[0])
        return max(1, -(-self.spec.horizon * min(samples or count, count) // count))

    def starts(self, samples: int | None = None) -> NDArray[np.datetime64] | None:
        """When the forecast of each window that `evaluation` gives begins; None where rows have no times."""
        if self.times_T is None:
            return None
        first, stop = self.spec.borders.test
        starts_N = self.times_T[first + self.spec.lookback : stop - self.spec.horizon + 1]
        return starts_N[spread(len(starts_N), samples)]

    def error(self, outputs: Floats, targets: Floats) -> float:
        """Mean squared error of raw forecasts, or of their medians, in scaled units."""
        std, levels = np.asarray(self.spec.scaler.std), self.model.levels
        forecast: Floats = np.asarray(outputs, np.float64)
        if levels:
            *lead, horizon, columns = targets.shape
            forecast = forecast.reshape(*lead, len(levels), horizon, columns)
            forecast = median(forecast, levels)
        return float(np.square((forecast.reshape(targets.shape) - targets) / std).mean())

    def baselines(self) -> list[Metric]:
        """The test error of simpler models, each beside this model's."""
        *others, mine = self.spec.metrics
        count = len(self._windows(self.spec.borders.test)[0])
        return [
            Metric(name=f"mse: {s.name}", reference=mine.mse, value=s.mse, higher_is_better=False, samples=count)
            for s in others
        ]

    def data(self) -> list[DataInfo]:
        """Which rows took part as what; calibration windows come from the training rows."""
        parts = {"train": "train", "calibration": "train", "evaluation": "test"}
        rows = {role: slice(*getattr(self.spec.borders, part)) for role, part in parts.items()}
        return [
            DataInfo(role=role, sha256=rows_sha256(self.values_TC[r]), rows=r.stop - r.start)
            for role, r in rows.items()
        ]

    def _windows(self, rows: tuple[int, int]) -> tuple[Floats, Floats]:
        return windows(self.values_TC, rows, lookback=self.spec.lookback, horizon=self.spec.horizon)


def load(folder: Path) -> Run:
    """Open a RUN/ folder. Raises InputError when it is not one, is unfinished, or does not hold what it says."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as load_numpy
    from safetensors.torch import load as load_torch

    spec = _read_spec(folder)
    blobs = {name: _read(folder / name) for name in (MODEL, SERIES)}
    for name, blob in blobs.items():
        if spec.files.get(name) != _sha256(blob):
            raise InputError(f"{folder / name} is not the file that {SPEC} tells of: it is cut short or was changed")
    try:
        series = load_numpy(blobs[SERIES])
        values_TC = series["values"]
        weights = load_torch(blobs[MODEL])
        model = models.create(spec.config, lookback=spec.lookback, horizon=spec.horizon, channels=len(spec.columns))
        model.load_state_dict(weights)
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise InputError(f"{folder} does not hold the model that {SPEC} tells of: {one_line(str(error))}") from None
    if values_TC.shape != (spec.rows, len(spec.columns)) or values_TC.dtype != np.float64:
        raise InputError(f"{folder / SERIES} holds {values_TC.dtype}{list(values_TC.shape)}, not what {SPEC} tells of")
    stamps_T = series.get("times")
    if stamps_T is not None and (stamps_T.shape != (spec.rows,) or stamps_T.dtype != np.int64):
        raise InputError(f"{folder / SERIES} holds times {stamps_T.dtype}{list(stamps_T.shape)}, not one of each row")
    times_T = None if stamps_T is None else stamps_T.view("datetime64[ns]")
    return Run(folder=folder, spec=spec, model=model, values_TC=values_TC, times_T=times_T)


def write(
    folder: Path,
    spec: Spec,
    model: "Forecaster",
    values_TC: NDArray[np.float64],
    times_T: NDArray[np.datetime64] | None = None,
) -> None:
    """Write a RUN/ folder, or replace one; a reader never sees a mixture of the two as complete."""
    from safetensors.numpy import save as save_numpy
    from safetensors.torch import save as save_torch

    series: dict[str, NDArray[np.generic]] = {"values": np.ascontiguousarray(values_TC)}
    if times_T is not None:
        series["times"] = np.ascontiguousarray(times_T, "datetime64[ns]").view(np.int64)
    blobs = {
        MODEL: save_torch({k: v.detach().contiguous() for k, v in model.state_dict().items()}),
        SERIES: save_numpy(series),
    }
    spec = msgspec.structs.replace(spec, files={name: _sha256(blob) for name, blob in blobs.items()})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SPEC).unlink(missing_ok=True)
    for name, blob in blobs.items():
        staging.write(folder / name, blob)
    staging.write(folder / SPEC, msgspec.json.format(msgspec.json.encode(spec), indent=2) + b"\n")


def _read_spec(folder: Path) -> Spec:
    if not (folder / SPEC).is_file():
        if (folder / STATE).is_file():
            raise InputError(f"{folder} is not finished; run the same `edgepass fit` again, it continues where it was")
        raise InputError(f"{folder} is no RUN/ folder: it has no {SPEC}; `edgepass fit DATA.csv -o RUN/` makes one")
    try:
        return msgspec.json.decode(_read(folder / SPEC), type=Spec)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{folder / SPEC} cannot be understood: {error}; train again with `edgepass fit`") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; train again with `edgepass fit`") from None


def _stack(windows_NWC: Floats, samples: int | None) -> NDArray[np.float32]:
    return np.ascontiguousarray(windows_NWC[spread(len(windows_NWC), samples)], dtype=np.float32)[:, None]


def rows_sha256(values_TC: NDArray[np.float64]) -> str:
    """Hash of rows of a series, as the manifest tells it."""
    return _sha256(np.ascontiguousarray(values_TC, np.float64).tobytes())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
