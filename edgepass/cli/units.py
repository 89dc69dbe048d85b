"""Quantities on the command line: 300KB, 1.5MiB, 2ms, 1%."""

import math
import re
from typing import Any

import click

BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
MICROSECONDS = {"us": 1.0, "ms": 1e3, "s": 1e6}
SHARES = {"": 1.0, "%": 0.01}
DECIBELS = {"": 1.0, "db": 1.0}


class Quantity(click.ParamType[float]):
    """A number with one of the units of a table, as a multiple of the table's first."""

    def __init__(self, name: str, units: dict[str, float] | dict[str, int], example: str) -> None:
        self.name, self.units, self.example = name, units, example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        found = re.fullmatch(r"\s*(-?\d+(?:\.\d+)?(?:e-?\d+)?)\s*([^\W\d]*|%)\s*", value, re.IGNORECASE)
        unit = found[2].lower() if found else ""
        if found is None or unit not in self.units:
            named = ", ".join(u for u in self.units if u)
            self.fail(f"{value!r} is not a {self.name}; write it as {self.example} (units: {named})", param, ctx)
        amount = float(found[1]) * self.units[unit]
        return int(amount) if self.units is BYTES else amount


class Share(Quantity):
    """A part of a whole, at most `most` of it; a bare number from `most_bare` on was meant in percent."""

    def __init__(self, name: str, example: str, *, most: float = math.inf, most_bare: float = 1.0) -> None:
        super().__init__(name, SHARES, example)
        self.most, self.most_bare = most, most_bare

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        amount = super().convert(value, param, ctx)
        if not isinstance(value, str):
            return amount
        if "%" not in value and amount > self.most_bare:
            self.fail(f"{value!r} would be {100 * amount:g}%; write {amount:g}% or {amount / 100:g}", param, ctx)
        if not 0 <= amount <= self.most:
            reason = "less than nothing" if amount < 0 else "more than everything"
            self.fail(f"{value!r} is {reason}; write it as {self.example}", param, ctx)
        return amount


SIZE = Quantity("size", BYTES, "300KB")
TIME = Quantity("time", MICROSECONDS, "2ms")
SHARE = Share("share", "95%", most=1.0)
CHANGE = Share("change", "1%", most_bare=math.nextafter(1.0, 0.0))
"""An error that doubles is worse by 100%, so that a change may be more than everything; 1 is one percent, or all."""
RATIO_DB = Quantity("ratio", DECIBELS, "20dB")
