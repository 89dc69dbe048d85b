"""Reading a CSV file into a series, and saying in one sentence what is wrong with a file that cannot be one.

Shapes: T rows, C columns.
"""

import csv
import hashlib
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edgepass.errors import InputError, UnknownNameError

TIME_NAMES = ("date", "time", "timestamp", "ds", "datetime")
DAY = 86_400
SEASONS = {1: (DAY, 7 * DAY), DAY: (7 * DAY,), 7 * DAY: (52 * 7 * DAY,)}
"""Seconds of the seasons that rows at most a day, at most a week … apart can show."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """Equally spaced observations. `step` is the seconds between rows, None where the file does not say."""

    values_TC: NDArray[np.float64]
    columns: tuple[str, ...]
    sha256: str
    """Of the bytes of the file."""
    name: str
    time_column: str | None = None
    step: float | None = None
    times_T: NDArray[np.datetime64] | None = None
    """When each row was, where the file says; in UTC where it names a time zone."""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values_TC)

    @property
    def seasons(self) -> tuple[int, ...]:
        """Rows in a day, a week … , where rows are that regular; shortest first."""
        if self.step is None:
            return ()
        base = max((b for b in SEASONS if b <= self.step), default=None)
        lengths = SEASONS[base] if base is not None else ()
        return tuple(int(s // self.step) for s in lengths if s % self.step == 0 and s // self.step > 1)


def read_csv(path: Path, time_column: str | None = None, columns: Sequence[str] | None = None) -> Series:
    """The series in a CSV file (plain or compressed, as pandas reads it).

    Without `time_column`, one called date, time, timestamp, ds or datetime is taken, else the first column of times;
    a file without any is taken in the order of its rows. Without `columns`, every other column is a series.
    Raises InputError for anything that cannot be forecast as it stands, and UnknownNameError for a column not there.
    """
    frame, sha256 = _read(path)
    names = [str(c) for c in frame.columns]
    if time_column is not None and time_column not in names:
        raise UnknownNameError("time column", time_column, names)
    time_column = time_column or _find_time(frame)
    known = [c for c in names if c != time_column]
    for column in columns or ():
        if column not in known:
            raise UnknownNameError("column", column, known)
    chosen = list(dict.fromkeys(columns or known))
    if not chosen:
        raise InputError(f"{path.name} has no column beside {time_column!r}; at least one column of numbers is needed")
    times_T, step, notes = (None, None, ()) if time_column is None else _times(frame[time_column], path.name)
    return Series(
        values_TC=_numbers(frame[chosen], path.name),
        columns=tuple(chosen),
        sha256=sha256,
        name=path.name,
        time_column=time_column,
        step=step,
        times_T=times_T,
        notes=notes,
    )


def _read(path: Path) -> tuple[pd.DataFrame, str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        why = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise InputError(f"{path} cannot be read: {why}; name a CSV file with a header line") from None
    try:
        header = pd.read_csv(path, sep="\0", engine="python", nrows=0, header=0, quoting=csv.QUOTE_NONE).columns
        separator = max(",;\t", key=str(header[0]).count)
        first = next(csv.reader([str(header[0])], delimiter=separator))
        frame = pd.read_csv(path, sep=separator, low_memory=False, index_col=False)
    except (ValueError, IndexError, OSError, EOFError, zlib.error, pd.errors.ParserError, pd.errors.ParserWarning) as e:
        why = " ".join(str(e).split()) or type(e).__name__
        raise InputError(f"{path} is not a CSV file that can be read: {why}") from None
    if not _are_names(first):
        raise InputError(
            f"{path} begins with {separator.join(first)!r}, which are values and no names; add a line above it that "
            "names each column"
        )
    if frame.empty:
        raise InputError(f"{path} has a header but no rows; a series has one row for each time")
    frame.columns = frame.columns.astype(str)
    return frame, hashlib.sha256(content).hexdigest()


def _are_names(first: Sequence[str]) -> bool:
    """Whether a first line is a header. Numbers are one only where they count the columns: 0,1,2 or 2024,2025."""
    cells = pd.Series([cell.strip() for cell in first])
    numbers = pd.to_numeric(cells, errors="coerce")
    if numbers.notna().all():
        start = numbers[0] if len(cells) > 1 else 0
        return bool(np.array_equal(numbers, start + np.arange(len(cells))))
    words = numbers.isna() & ~cells.str.contains(r"\d")  # May and now are times to pandas, and names here
    return bool((words | (numbers.isna() & _parse(cells).isna())).any())


def _find_time(frame: pd.DataFrame) -> str | None:
    for column in frame.columns:
        if column.lower() in TIME_NAMES:
            return str(column)
    for column in frame.columns:
        # The first rows decide: a column of words is refused later, as a column that is not numeric.
        if not pd.api.types.is_numeric_dtype(frame[column]) and _parse(frame[column].head(100)).notna().all():
            return str(column)
    return None


def _parse(column: "pd.Series[str]") -> "pd.Series[pd.Timestamp]":
    """Times in UTC, NaT for what is not one, by the first reading that understands all."""
    readings: tuple[dict[str, Any], ...] = ({}, {"format": "ISO8601"}, {"dayfirst": True})
    best: pd.Series[pd.Timestamp] | None = None
    for how in readings:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # pandas: "could not infer format", which NaT tells as well
            times = pd.to_datetime(column, errors="coerce", utc=True, **how)
        if best is None or times.notna().sum() > best.notna().sum():
            best = times
        if best.notna().all():
            break
    assert best is not None
    return best


def _times(column: "pd.Series[str]", file: str) -> tuple[NDArray[np.datetime64] | None, float | None, tuple[str, ...]]:
    """The times, seconds between rows, and notes; refuses times that are absent, double or out of order."""
    numeric = pd.api.types.is_numeric_dtype(column)
    times = column if numeric else _parse(column)
    what = f"time column {column.name!r} of {file}"
    if times.isna().any():
        row = int(np.argmax(times.isna()))
        raise InputError(
            f"{what} holds {column.iloc[row]!r} in data row {row + 1}, which is not a time; "
            "write times as 2026-01-31 23:30:00, or name another column with --time-column"
        )
    if (double := times.duplicated()).any():
        row = int(np.argmax(double))
        raise InputError(
            f"{what} has {int(double.sum())} times twice, first {column.iloc[row]!r} in data row {row + 1}; "
            "keep one row for each time, and one column for each series"
        )
    stamps = times.to_numpy() if numeric else times.to_numpy(dtype="datetime64[ns]")
    if (back := stamps[1:] < stamps[:-1]).any():
        row = int(np.argmax(back)) + 1
        raise InputError(f"{what} goes back in time at data row {row + 1}; sort the file by {column.name!r}")
    if numeric:
        return None, None, ()
    times_T = stamps.astype("datetime64[ns]")
    if len(times_T) == 1:
        return times_T, None, ()
    seconds = np.diff(times_T) / np.timedelta64(1, "s")
    values, counts = np.unique(seconds, return_counts=True)
    step = float(values[counts.argmax()])
    odd = int((seconds != step).sum())
    if not odd:
        return times_T, step, ()
    note = f"{odd} rows of {file} are not {step:g} seconds after the one before; they are taken as equally spaced"
    return times_T, step, (note,)


def _numbers(frame: pd.DataFrame, file: str) -> NDArray[np.float64]:
    """The columns as float64; refuses words, holes and columns that never change."""
    words = [c for c in frame.columns if not _is_number(frame[c])]
    if words:
        usable = [c for c in frame.columns if c not in words]
        hint = f", for example --columns {','.join(usable)}" if usable else ""
        raise InputError(
            f"{_list(words)} of {file} {'is' if len(words) == 1 else 'are'} not numeric; "
            f"choose numeric columns with --columns{hint}"
        )
    values_TC = frame.to_numpy(dtype=np.float64)
    holes_TC = ~np.isfinite(values_TC)
    if holes_TC.any():
        where = [frame.columns[i] for i in np.flatnonzero(holes_TC.any(axis=0)).tolist()]
        raise InputError(
            f"{file} misses {int(holes_TC.sum())} values in {_list(where)}, first in data row "
            f"{int(np.argmax(holes_TC.any(axis=1))) + 1}; fill them, or leave the columns out with --columns"
        )
    constant = [frame.columns[i] for i in np.flatnonzero(np.ptp(values_TC, axis=0) == 0).tolist()]
    if constant:
        verb = "never changes" if len(constant) == 1 else "never change"
        raise InputError(f"{_list(constant)} of {file} {verb}; leave out what needs no forecast, with --columns")
    return values_TC


def _is_number(column: "pd.Series[float]") -> bool:
    kinds = pd.api.types
    return bool(kinds.is_numeric_dtype(column) and not kinds.is_bool_dtype(column))


def _list(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(repr(n) for n in names[:most])
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"column{'s' if len(names) > 1 else ''} {shown}{more}"
