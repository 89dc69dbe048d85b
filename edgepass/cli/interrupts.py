"""Ctrl-C and SIGTERM, remembered: a converter's native code may swallow a KeyboardInterrupt, or make it an error."""

import signal
from types import FrameType

_seen = False


def install() -> None:
    """From now on both signals raise KeyboardInterrupt, and are remembered."""
    global _seen
    _seen = False
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _remember)


def seen() -> bool:
    """Whether the user asked to stop."""
    return _seen


def check() -> None:
    """Raise KeyboardInterrupt if the user asked to stop; called between steps."""
    if _seen:
        raise KeyboardInterrupt


def _remember(number: int, frame: FrameType | None) -> None:
    global _seen
    again, _seen = _seen, True
    if not again:  # a terminal's Ctrl-C comes twice, from it and passed on, and must not stop the clearing away
        raise KeyboardInterrupt
