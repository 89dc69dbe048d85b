"""Splits, windows and the scaler: what a model sees of a series, and when.

Shapes: T rows, N windows, L lookback, H horizon, C columns.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgepass.errors import InputError
from edgepass.series.table import Series

Floats = NDArray[np.floating]

HOUR = 3600
ETT_ROWS = {HOUR: (8640, 2880, 2880), HOUR / 4: (34560, 11520, 11520)}
"""12, 4 and 4 months of 30 days, by seconds between rows (Zhou et al., AAAI 2021, Informer)."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Row ranges [start, stop). Validation and test start `lookback` rows early: only targets are held out."""

    train: tuple[int, int]
    validation: tuple[int, int]
    test: tuple[int, int]


def split(series: Series, how: str, *, lookback: int, horizon: int) -> Split:
    """Split a series in time: "70/10/20" (any percentages that add to 100), or "ett" for the ETT benchmark's.

    Raises InputError for a split that is not one, and for a series too short for it.
    """
    for what, value in (("lookback", lookback), ("horizon", horizon)):
        if value < 1:
            raise InputError(f"{what} is {value}; it must be at least 1")
    rows = len(series)
    if how == "ett":
        if series.step not in ETT_ROWS:
            raise InputError("split 'ett' is for hourly or 15-minute rows with a time column; use '70/10/20'")
        train, validation, test = ETT_ROWS[series.step]
        needed = train + validation + test
        enough = rows >= needed
        if train < lookback + horizon or validation < horizon:
            raise InputError(f"split 'ett' has no room for lookback {lookback} and horizon {horizon}; use shorter ones")
    else:
        shares = _shares(how)
        train, validation, test = _counts(rows, shares)
        enough = _fits(rows, shares, lookback, horizon)
        needed = rows if enough else _rows_needed(rows, shares, lookback, horizon)
    if not enough:
        raise InputError(
            f"{series.name} has {rows} rows; lookback {lookback} and horizon {horizon} with split {how} need {needed}: "
            "use a shorter lookback or horizon, or a longer series"
        )
    end = train + validation
    return Split(train=(0, train), validation=(train - lookback, end), test=(end - lookback, end + test))


def _shares(how: str) -> tuple[int, int, int]:
    parts = how.split("/")
    if len(parts) == 3 and all(p.isdecimal() and int(p) > 0 for p in parts) and sum(map(int, parts)) == 100:
        return int(parts[0]), int(parts[1]), int(parts[2])
    raise InputError(f"split {how!r} is not one; give three percentages that add to 100, as 70/10/20, or 'ett'")


def _counts(rows: int, shares: tuple[int, int, int]) -> tuple[int, int, int]:
    train, test = rows * shares[0] // 100, rows * shares[2] // 100
    return train, rows - train - test, test


def _fits(rows: int, shares: tuple[int, int, int], lookback: int, horizon: int) -> bool:
    train, validation, test = _counts(rows, shares)
    return train >= lookback + horizon and validation >= horizon and test >= horizon


def _rows_needed(rows: int, shares: tuple[int, int, int], lookback: int, horizon: int) -> int:
    """The next number of rows above `rows` that gives each part one window."""
    bounds = (lookback + horizon, horizon - 2, horizon)  # rounding may hand the validation part up to two rows more
    rows = max(rows + 1, *(bound * 100 // share for bound, share in zip(bounds, shares, strict=True)))
    while not _fits(rows, shares, lookback, horizon):
        rows += 1
    return rows


@dataclass(frozen=True, kw_only=True)
class Scaler:
    """Mean and population standard deviation of each column of the training rows."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def scale(self, values: Floats) -> NDArray[np.float64]:
        """Raw values [..., C] -> scaled."""
        scaled: NDArray[np.float64] = (np.asarray(values, np.float64) - np.asarray(self.mean)) / np.asarray(self.std)
        return scaled

    def unscale(self, values: Floats) -> NDArray[np.float64]:
        """Scaled values [..., C] -> raw."""
        raw: NDArray[np.float64] = np.asarray(values, np.float64) * np.asarray(self.std) + np.asarray(self.mean)
        return raw


def fit_scaler(series: Series, train: tuple[int, int]) -> Scaler:
    """The scaler of the training rows. Raises InputError for a column that does not change within them."""
    rows_TC = series.values_TC[slice(*train)]
    mean, std = rows_TC.mean(axis=0), rows_TC.std(axis=0)
    if flat := [c for c, low, high in zip(series.columns, rows_TC.min(0), rows_TC.max(0), strict=True) if low == high]:
        raise InputError(
            f"{', '.join(map(repr, flat))} of {series.name} does not change in the training rows "
            f"({train[1] - train[0]}): nothing can be learnt of it; leave it out with --columns"
        )
    return Scaler(mean=tuple(mean.tolist()), std=tuple(std.tolist()))


def windows(values_TC: Floats, rows: tuple[int, int], *, lookback: int, horizon: int) -> tuple[Floats, Floats]:
    """Every window within the row range: inputs [N, L, C] and targets [N, H, C], stride 1, as read-only views."""
    part_TC = values_TC[slice(*rows)]
    both_NCW = np.lib.stride_tricks.sliding_window_view(part_TC, lookback + horizon, axis=0)
    both_NWC = both_NCW.transpose(0, 2, 1)
    return both_NWC[:, :lookback], both_NWC[:, lookback:]
