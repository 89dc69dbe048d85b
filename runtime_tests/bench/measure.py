"""How everything here is measured: interleaved rounds in one process, or whole processes started afresh."""

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHILD_SECONDS = 900
ANSWER = "answer.json"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison. `ours` and `rival` are in `unit`; `aim` is the largest ratio that is good enough, None for none.

    `noise`: how far from 1 the ratio of a thing to itself was in the same run.
    """

    what: str
    ours: float
    rival: float
    unit: str
    aim: float | None = None
    noise: float = 0.0
    note: str = ""

    @property
    def ratio(self) -> float:
        return self.ours / self.rival

    @property
    def verdict(self) -> str:
        """Whether the aim is met, and if only the noise of the run hides it, that."""
        if self.aim is None:
            return ""
        if self.ratio <= self.aim:
            return "met"
        return "within noise" if self.ratio <= self.aim + self.noise else "missed"


@dataclass(frozen=True, kw_only=True)
class Section:
    """What one benchmark has to say."""

    title: str
    how: str
    rows: list[Row]
    remarks: list[str] = field(default_factory=list)


def interleaved(calls: Mapping[str, Callable[[], object]], *, rounds: int, burst: int = 1) -> dict[str, list[float]]:
    """Seconds a call, one number a round, each the mean of `burst` calls. The order turns by one with every round."""
    names = list(calls)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for call in calls.values():
        call()
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                call = calls[name]
                start = time.perf_counter()
                for _ in range(burst):
                    call()
                seconds[name].append((time.perf_counter() - start) / burst)
    finally:
        gc.enable()
    return seconds


def fresh(module: str, *args: object, folder: Path) -> tuple[float, dict[str, Any]]:
    """Run `python -m MODULE ARGS` to its end: wall seconds from start to exit, and what it left with `answer`."""
    command = [sys.executable, "-m", f"{__package__}.{module}", *map(str, args), str(folder)]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, timeout=CHILD_SECONDS, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return seconds, json.loads((folder / ANSWER).read_text())


def answer(folder: Path, **values: Any) -> None:
    """In the process that `fresh` started: what it found out."""
    (folder / ANSWER).write_text(json.dumps(values))


def check(holds: bool, what: str) -> None:
    """A benchmark of a wrong result is worth nothing, under `python -O` too."""
    if not holds:
        raise RuntimeError(f"the benchmark stops, because a result is wrong: {what}")
