"""How the report and the terminal say verdicts, gates and numbers."""

import re
import string
from collections import Counter
from datetime import datetime

from edgepass.judging.figures import decibels, duration, number, percent, size
from edgepass.judging.manifest import ArtifactRecord, Evidence, Manifest, Metric, Outcome

VERDICTS: dict[Outcome, str] = {"pass": "pass", "fail": "FAIL", "not-evaluated": "not evaluated"}
EVIDENCE: dict[Evidence, str] = {
    "device": "measured on a real device",
    "host runtime": "measured with the format's own runtime on the computer that built the file",
    "emulated ISA": "measured on an emulated processor",
    "reference executor": "reference executor, not the device's runtime: edgepass carried out the file's program",
    "predicted": "computed from the file, not measured",
}
# How the gates are said: (sentence, how the bound is written).
_GATES = {
    "max_metric_drop": ("metric worse by at most {}", "percent"),
    "confident": ("that also at the bad end of its 95 % interval", "percent"),
    "min_sqnr": ("SQNR of at least {}", "decibels"),
    "min_agreement": ("agreement of at least {}", "percent"),
    "max_size": ("file of at most {}", "size"),
    "max_peak_memory": ("peak memory of at most {}", "size"),
    "max_latency": ("median latency of at most {}", "duration"),
    "min_delegated": ("at least {} of the FLOPs delegated", "percent"),
    "min_coverage": ("at least {} of the weights in the number format asked for", "percent"),
}


def verdict(manifest: Manifest) -> str:
    """The verdict in words."""
    outcomes = list(manifest.outcomes.values())
    total, count = len(outcomes), Counter(outcomes)
    if total and count["pass"] == total:
        return f"All {total} files do what the model does, within every bound." if total > 1 else "The file passes."
    if not total:
        return "Nothing was written."
    parts = [f"{count['pass']} of {total} file{'s' * (total > 1)} pass{'es' * (count['pass'] == 1)}"]
    if failed := count["fail"]:
        parts.append(f"{failed} fail{'s' * (failed == 1)}")
    if unknown := count["not-evaluated"]:
        parts.append(f"{unknown} could not be evaluated")
    return ", ".join(parts) + "."


def bounds(manifest: Manifest) -> list[tuple[str, list[str]]]:
    """Every bound that judged, as sentences: the user's, then what each recipe asks of its files beside those."""
    said = [("From you", [gate(name, bound) for name, bound in manifest.gates.items()])]
    for recipe in dict.fromkeys(a.recipe for a in manifest.artifacts):
        own = {k: v for a in manifest.artifacts if a.recipe == recipe for k, v in a.bounds.items()}
        said.append((f"From {recipe}", [gate(k, v) for k, v in own.items() if manifest.gates.get(k) != v]))
    return [(who, what) for who, what in said if what]


def metrics(manifest: Manifest) -> list[str]:
    """Which metrics files were held to: direction, output, samples."""
    found = dict.fromkeys(
        f"{a.method and f'{a.method}: '}{a.metric.name}, {'higher' if a.metric.higher_is_better else 'lower'} is better"
        + f", of {a.metric.output}" * bool(a.metric.output)
        + f", on {a.metric.samples:,} samples"
        for a in manifest.artifacts
        if a.metric
    )
    return list(found)


def moment(iso: str) -> str:
    """An ISO 8601 time for a person; itself where it is none."""
    try:
        when = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return f"{when.day} {when:%B %Y, %H:%M}" + " UTC" * (when.utcoffset() is not None)


def unit(column: str) -> str:
    """What a series is counted in, where its name ends with it: `demand [MWh]`, `demand (MWh)`."""
    found = re.search(r"[\[(]([^\[\]()]{1,20})[\])]\s*$", column)
    return found[1].strip() if found else ""


def outputs_evidence(record: ArtifactRecord) -> Evidence:
    """The evidence level of parity and metric: that of the run which gave the outputs, the one that was timed."""
    return record.latency.evidence if record.latency else "host runtime"


def change(metric: Metric, before: str = "") -> str:
    """The relative change of a metric, in words; `before` stands in front of its figure, where it has one."""
    if abs(metric.drop) < 5e-5:
        return "no change"
    if abs(metric.drop) > 1e3:  # the reference is zero, or as good as
        return "worse" if metric.drop > 0 else "better"
    return f"{before}{share(abs(metric.drop))} {'worse' if metric.drop > 0 else 'better'}"


def signed(drop: float) -> str:
    """The same in a column of a table; nothing where there is nothing to see."""
    if abs(drop) > 1e3:
        return "worse" if drop > 0 else "better"
    said = f"{100 * drop:+.1f} %"
    return "0 %" if said in ("+0.0 %", "-0.0 %") else said


def share(part: float) -> str:
    """A part of something as a percentage of two digits: no metric is known better."""
    return f"{float(f'{100 * part:.2g}'):g} %" if part < 0.1 else f"{100 * part:.0f} %"


def gate(name: str, bound: float) -> str:
    """A gate as a sentence."""
    if name not in _GATES:
        return f"{name.replace('_', ' ')} {number(bound)}"
    said, unit = _GATES[name]
    return said.format({"percent": percent, "decibels": decibels, "size": size, "duration": duration}[unit](bound))


def sentence(text: str) -> str:
    """The text with a capital, unless it begins with a name such as conv_1, and a full stop."""
    text = text.strip()
    first = text.partition(" ")[0]
    text = text[:1].upper() + text[1:] if first.isalpha() and first.islower() else text
    return text if text.endswith((".", "!", "?")) else f"{text}."


def shape(dimensions: tuple[int | None, ...]) -> str:
    """A shape with its open dimensions lettered: 1 × n × 7."""
    letters = iter(string.ascii_lowercase[13:])
    return " \N{MULTIPLICATION SIGN} ".join(str(d) if d is not None else next(letters) for d in dimensions) or "scalar"
