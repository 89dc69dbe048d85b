"""`edgepass --help`: what everybody runs first."""

import subprocess
import sys
from statistics import median

from runtime_tests.bench.measure import Row, Section, check, interleaved

AIM_SECONDS = 0.15
ROUNDS = 20
HELP = [sys.executable, "-m", "edgepass", "--help"]
BARE = [sys.executable, "-c", "pass"]


def run(rounds: int = ROUNDS) -> Section:
    """Median wall seconds of the process."""
    said = subprocess.run([sys.executable, "-X", "importtime", *HELP[1:]], capture_output=True, text=True, check=True)
    check("Usage:" in said.stdout and "export" in said.stdout, "--help does not list the commands")
    modules = {line.rpartition("|")[2].strip() for line in said.stderr.splitlines()}
    check("click" in modules and "torch" not in modules, "--help imports torch")
    calls = {
        name: lambda command=command: subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        for name, command in (("help", HELP), ("bare", BARE))
    }
    seconds = interleaved(calls, rounds=rounds)
    ours, rival = median(seconds["help"]), median(seconds["bare"])
    return Section(
        title="edgepass --help against a bare interpreter",
        how=f"Median wall time of {rounds} interleaved processes; the rival is `python -c pass`. No torch is imported.",
        rows=[Row(what="wall time", ours=ours * 1e3, rival=rival * 1e3, unit="ms", aim=AIM_SECONDS / rival)],
        remarks=[f"The aim is {AIM_SECONDS:.2f} s; the ratio that it amounts to depends on the interpreter's start."],
    )
