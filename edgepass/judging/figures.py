"""How figures are written, wherever a person reads them: decimal units, three digits that count, never more."""

from edgepass.judging.parity import SQNR_CAP_DB

FLOAT32_MAX = 3.4028234663852886e38


def size(count: float | None) -> str:
    """Bytes in decimal units: 1 kB is 1,000 bytes."""
    if count is None:
        return "not measured"
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= 0.9995 * scale:
            return f"{three(count / scale)} {unit}"
    return f"{count:.0f} B"


def duration(microseconds: float) -> str:
    """Microseconds in the unit that reads best."""
    for unit, scale in (("s", 1e6), ("ms", 1e3)):
        if microseconds >= 0.9995 * scale:
            return f"{three(microseconds / scale)} {unit}"
    return f"{three(microseconds)} \N{MICRO SIGN}s"


def percent(share: float | None) -> str:
    """A fraction as a percentage; one that is nearly but not quite everything never reads 100 %."""
    if share is None:
        return "not known"
    return f"{min(100 * share, 99.9) if share < 1.0 else 100 * share:.3g} %"


def decibels(value: float) -> str:
    """SQNR in words where a figure would mislead."""
    if abs(value) >= SQNR_CAP_DB:
        return "equal bit for bit" if value > 0 else "no signal left"
    return f"{value:.1f} dB"


def number(value: float) -> str:
    """Four significant digits; what no float32 can hold stands for NaN or infinity."""
    return "not finite" if not abs(value) < FLOAT32_MAX else f"{value:.4g}"


def times(ratio: float) -> str:
    """A ratio of noises; one that is not finite comes of NaN or infinity in a file."""
    return "infinitely many" if not ratio < FLOAT32_MAX else three(ratio)


def three(value: float) -> str:
    """Three digits that count."""
    return f"{value:.0f}" if value >= 99.95 else f"{value:.3g}"
