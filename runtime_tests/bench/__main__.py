"""python -m runtime_tests.bench: run every benchmark and write RESULTS.md."""

import argparse
import datetime
import os
import platform
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from runtime_tests.bench import export, help, latency, runtime
from runtime_tests.bench.measure import Row, Section

RESULTS = Path(__file__).with_name("RESULTS.md")
PACKAGES = ("edgepass", "torch", "torchao", "executorch", "coremltools", "litert-torch", "ai-edge-litert")
BENCHES: dict[str, Callable[[], Section | list[Section]]] = {
    "help": help.run,
    "export": export.run,
    "latency": latency.run,
    "runtime": runtime.run,
}


def main() -> None:
    """Run what is named, or all; only a run of all is written down."""
    parser = argparse.ArgumentParser(prog="python -m runtime_tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *BENCHES], help="benchmarks to print; all, and to a file")
    parser.add_argument("--date", default=datetime.date.today().isoformat(), help="the date to write down")
    given = parser.parse_args()
    load = [os.getloadavg()[0]]
    sections: list[Section] = []
    for name in given.names or BENCHES:
        found = BENCHES[name]()
        sections += found if isinstance(found, list) else [found]
    load.append(os.getloadavg()[0])
    text = document(sections, given.date, load)
    print(text)
    if not given.names:
        RESULTS.write_text(text)


def document(sections: list[Section], date: str, load: list[float]) -> str:
    """The whole of RESULTS.md. `load`: mean over a minute, before the first benchmark and after the last."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    head = [
        "# Benchmarks",
        "",
        f"Written by `python -m runtime_tests.bench` on {date}. Every ratio is of two things measured in one run; the "
        "result of each was checked. Absolute numbers are of this machine.",
        "",
        f"* Machine: {cpu()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}; "
        f"load {load[0]:.1f} before and {load[1]:.1f} after, of which 1 is this",
        f"* Python {platform.python_version()}; {versions}",
    ]
    return "\n".join([*head, *(line for section in sections for line in _lines(section))]).rstrip() + "\n"


def cpu() -> str:
    """Model name of the processor."""
    info = Path("/proc/cpuinfo")
    names = info.read_text().splitlines() if info.exists() else []
    found = [line.partition(":")[2].strip() for line in names if line.startswith("model name")]
    return found[0] if found else platform.processor() or platform.machine()


def _lines(section: Section) -> list[str]:
    table = ["| | ours | rival | ratio | aim | | |", "|---|---:|---:|---:|---:|---|---|"]
    remarks = [f"* {remark}" for remark in section.remarks]
    return ["", f"## {section.title}", "", section.how, "", *table, *map(_cells, section.rows), "", *remarks]


def _cells(row: Row) -> str:
    aim = "" if row.aim is None else f"<= {row.aim:.2f}"
    ours, rival = (f"{value:.4g} {row.unit}" for value in (row.ours, row.rival))
    return f"| {row.what} | {ours} | {rival} | {row.ratio:.2f} | {aim} | {row.verdict} | {row.note} |"


if __name__ == "__main__":
    main()
