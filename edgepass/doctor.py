"""Doctor: does each target really work here, not merely look installed?

Every probe is a child process that imports the packages, exports one linear layer and, where this host has the runtime,
runs the file and compares. A broken binary, a crash or a hang becomes a sentence and the pip line that mends it.
"""

import importlib.metadata
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepass._probes import PACKAGES
from edgepass.errors import UnknownNameError

if TYPE_CHECKING:
    from rich.table import Table

TIMEOUT_S = 180.0
# Said by the loaders of Linux and macOS, and by NumPy, when a binary meets another version than it was built for.
_ABI = re.compile(
    r"undefined symbol|symbol not found|version `?\w+'? not found|size changed|compiled using NumPy", re.I
)


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What was found out about one target. `fix` is a pip line, or None when there is nothing to mend."""

    target: str
    ok: bool
    versions: dict[str, str]
    detail: str
    fix: str | None = None
    seconds: float = 0.0


def check(targets: Sequence[str] = tuple(PACKAGES), timeout_s: float = TIMEOUT_S) -> list[Probe]:
    """Probe each of `targets` ("core" and the formats) in turn, each in a process of its own.

    Raises UnknownNameError for a target that has no probe. Whatever else goes wrong is in the Probe.
    """
    for target in targets:
        if target not in PACKAGES:
            raise UnknownNameError("target", target, PACKAGES)
    return [_check_one(target, timeout_s) for target in targets]


def table(probes: Sequence[Probe]) -> "Table":
    """The probes for a terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    view = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for heading in ("target", "works", "versions", "what was found"):
        view.add_column(heading, overflow="fold")
    for p in probes:
        said = Text(p.detail)
        if p.fix:
            said.append(f"\n{p.fix}", style="bold")
        versions = "\n".join(f"{name} {version}" for name, version in p.versions.items())
        view.add_row(Text(p.target), Text("yes", "green") if p.ok else Text("NO", "bold red"), Text(versions), said)
    return view


def _check_one(target: str, timeout_s: float) -> Probe:
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="edgepass-doctor-") as folder:
        # It runs in a folder of its own: the one that the user happens to stand in must not shadow a package.
        command = [sys.executable, "-m", "edgepass._probes", target, folder]
        try:
            code: int | None = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, cwd=folder, timeout=timeout_s, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            code = None
        step = _text(Path(folder, "step")) or "starting Python"
        answer = _text(Path(folder, "answer.json"))
    versions = {name: v for module in PACKAGES[target] if (v := _version(name := _distribution(module)))}
    detail, broken = _sentence(target, code, step, json.loads(answer) if answer else None, versions, timeout_s)
    outside = _outside(target, versions)
    if outside and not broken:
        detail = f"one layer worked, yet {outside}; other versions are known to break without a word"
    fix = _pip_line(target, versions) if broken or outside else None
    seconds = round(time.monotonic() - start, 1)
    return Probe(target=target, ok=fix is None, versions=versions, detail=detail, fix=fix, seconds=seconds)


def _sentence(
    target: str, code: int | None, step: str, answer: Any, versions: dict[str, str], timeout_s: float
) -> tuple[str, bool]:
    """What to tell a person, and whether it is a fault."""
    if code is None:
        return f"no answer within {timeout_s:.0f} s while {step}", True
    if code < 0:
        return f"the process was ended by {signal.Signals(-code).name} while {step}", True
    if answer is None:
        return f"the process ended with code {code} and without an answer while {step}", True
    if "ok" in answer:
        return str(answer["ok"]), False
    if missing := answer.get("missing"):
        needed = step.removeprefix("importing ")
        own = missing.split(".")[0] in PACKAGES[target]
        return f"{_distribution(missing)} is not installed" + ("" if own else f", and {needed} needs it"), True
    error = str(answer["error"])
    if _ABI.search(error):
        module = _distribution(step.removeprefix("importing ").split(".")[0])
        base = "numpy" if "numpy" in error.lower() else "torch"
        ours, theirs = (f"{name} {versions.get(name) or _version(name) or '(no version)'}" for name in (module, base))
        return f"{ours} was built for another {base} than the {theirs} installed here: {error}", True
    return f"failed while {step}: {error}", True


def _outside(target: str, versions: dict[str, str]) -> str:
    """The installed packages that edgepass was not made for, in words; empty when there are none."""
    wanted = _requirements(target)
    return "; ".join(
        f"{name} is {v}, edgepass needs {wanted[name]}"
        for name, v in versions.items()
        if name in wanted and not wanted[name].contains(v, prereleases=True)
    )


def _pip_line(target: str, versions: dict[str, str]) -> str:
    """Installs the target with the torch that it was built for: executorch itself declares none, so pip would not."""
    this = "edgepass" if target == "core" else f"edgepass[{target}]"
    if not versions.get("torch"):
        return f"pip install '{this}'"
    torch = _requirements("core").get("torch", "")
    return f"pip install '{this}' 'torch{torch}'"


def _requirements(target: str) -> dict[str, Any]:
    """Name -> version specifier of what edgepass declares for the target, extras of itself followed."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    declared = [Requirement(line) for line in importlib.metadata.requires("edgepass") or []]
    found: dict[str, Any] = {}
    extras, done = ["", "" if target == "core" else target], set[str]()
    while extras:
        extra = extras.pop()
        if extra in done:
            continue
        done.add(extra)
        for r in declared:
            if (not r.marker and extra == "") or (r.marker and extra and r.marker.evaluate({"extra": extra})):
                if r.name == "edgepass":
                    extras.extend(r.extras)
                else:
                    found[canonicalize_name(r.name)] = r.specifier
    return found


def _distribution(module: str) -> str:
    return module.split(".")[0].replace("_", "-")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _text(path: Path) -> str:
    return path.read_text() if path.is_file() else ""
