"""What a reader asks first: is the model good, what does each recipe cost, what did converters change, what to ship.

All of it follows from the manifest alone, and the page and the terminal say the same.
"""

import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Literal

from edgepass.judging.figures import decibels, number
from edgepass.judging.manifest import ArtifactRecord, Manifest, Metric
from edgepass.report import words
from edgepass.report.finding import Finding, Row, grouped

Tone = Literal["pass", "fail", "not-evaluated", "caution"]
SMALL = 0.01
"""What a metric may worsen by for a file to be chosen, where the user has not said it."""
CONSTANT = "a constant"
EVEN = 1e-3
"""Metrics that are closer than this share of each other are called equal: they print as the same three digits."""
CLASS = re.compile(r"[^\W\d]\w*(\.(?!(pt2|toml)$)([^\W\d]\w*|<locals>))+")
"""A dotted path of a class, as a model that Python gave is called; no file has such a name."""
DATA = {"calibration": "--calibration-data F", "evaluation": "--eval-data F"}
UNITS = {
    "max_metric_drop": "%",
    "min_sqnr": "dB",
    "min_agreement": "%",
    "max_size": "B",
    "max_peak_memory": "B",
    "max_latency": "us",
    "min_delegated": "%",
    "confident": "",
}
"""In which the command line takes a bound; those that are not here are for Python and recipes alone."""
INSTALL = re.compile(r"pip install 'edgepass\[[\w,]+\]'")


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The verdict in a word and a sentence."""

    tone: Tone
    word: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One model among those that the metric is told of."""

    name: str
    value: float
    ours: bool


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How the float model fares beside simpler ones. `bars`: the best first."""

    tone: Tone
    headline: str
    detail: str
    bars: list[Bar] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The file to ship for a target, or None, and why; `files` of `bytes` where it takes several for all methods.

    `record`: of a file of several methods, that of the one that loses most.
    """

    target: str
    record: ArtifactRecord | None
    why: str
    files: tuple[str, ...] = ()
    bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command to run next, and what for."""

    command: str
    why: str


def standing(manifest: Manifest) -> Standing:
    """The verdict, which is no plain pass where a simpler model is better or where the inputs were made up."""
    sentence = words.verdict(manifest)
    missing = [choice.target for choice in choices(manifest) if choice.record is None]
    if manifest.verdict != "pass" and manifest.artifacts:
        without = f"No file can be shipped for {' or '.join(missing)}."
        sentence = f"{sentence} {without if missing else 'Every target has a file that passes.'}"
    if manifest.verdict == "fail":
        return Standing(tone="fail", word="Fail", sentence=sentence)
    if manifest.verdict == "not-evaluated":
        return Standing(tone="not-evaluated", word="Not evaluated", sentence=sentence)
    if manifest.model.captured:
        said = f"{sentence} But that is the program that torch.export made of it, which is not what the model does."
        return Standing(tone="caution", word="The files are right, torch.export changed the model", sentence=said)
    beaten = quality(manifest)
    if beaten.tone == "caution":
        best = best_baseline(manifest)
        name = _named(best)[0]
        if best.drop > 0 and unsure(best):
            word = f"The files are right, the model may be no better than {name}"
            said = f"{sentence} But {best.samples:,} samples do not tell the model in them from {name}."
            return Standing(tone="caution", word=word, sentence=said)
        said = f"{sentence} But {name} is as good or better than the model in them: {beaten.headline.lower()}."
        return Standing(tone="caution", word=f"The files are right, the model does not beat {name}", sentence=said)
    if _made_up(manifest):
        said = f"{sentence} They were judged on noise, though: give real data with --eval-data."
        return Standing(tone="caution", word="Pass, on made-up inputs", sentence=said)
    if beaten.tone == "pass":
        sentence = f"{sentence} The model beats {_named(best_baseline(manifest))[0]}."
    return Standing(tone="pass", word="Pass", sentence=sentence)


def quality(manifest: Manifest) -> Quality:
    """Whether the float model beats the simpler models that it is held against, and by how much."""
    metric = next((a.metric for a in manifest.artifacts if a.metric), None)
    simpler = baselines(manifest)
    if not simpler:
        if metric is None:
            why = "Judged on made-up inputs" if _made_up(manifest) else "No targets were given"
            return Quality(
                tone="not-evaluated",
                headline="Not known",
                detail=f"{why}, so files are only held against the float model, and nobody asked how good that is.",
            )
        return Quality(
            tone="not-evaluated",
            headline=f"{metric.name} {number(metric.reference)}",
            detail=f"Of the float model, on {metric.samples:,} samples. No simpler model was given to compare it with.",
        )
    best = best_baseline(manifest)
    name, what = _named(best)
    behind = best.drop if best.reference else math.inf  # of the baseline beside the model: positive is worse
    lead = (best.reference - best.value) / max(abs(best.value), 1e-12) * (1 if best.higher_is_better else -1)
    if abs(lead) < EVEN:
        headline = f"As good as {name}, no better"
    elif best.higher_is_better:
        headline = f"{what or 'metric'} {number(best.reference)}, {name} {number(best.value)}"
    else:
        headline = f"{words.share(abs(lead))} {'less' if lead > 0 else 'more'} error than {name}"
    counted = ", in squared standard deviations of each series" if manifest.model.columns and what == "mse" else ""
    detail = f"{what} {number(best.reference)} against {number(best.value)}{counted}, on {best.samples:,} samples"
    told = ", which do not tell them apart." if best.drop > 0 and unsure(best) else "."
    ours = Bar(name="this model", value=best.reference, ours=True)
    bars = [ours, *(Bar(name=_named(b)[0], value=b.value, ours=False) for b in simpler)]
    bars.sort(key=lambda bar: -bar.value if best.higher_is_better else bar.value)
    return Quality(
        tone="pass" if lead >= EVEN and behind > 0 and not unsure(best) else "caution",
        headline=headline,
        detail=f"{detail}{told}{_typical(manifest, best.reference, what)}",
        bars=bars,
    )


def baselines(manifest: Manifest) -> list[Metric]:
    """The simpler models to beat: those that came with the model, or else the best answer that is always the same."""
    if manifest.baselines:
        return manifest.baselines
    metric = next((a.metric for a in manifest.artifacts if a.metric), None)
    if metric is None or metric.constant is None:
        return []
    return [
        replace(metric, name=f"{metric.name}: {CONSTANT}", value=metric.constant, interval=metric.constant_interval)
    ]


def best_baseline(manifest: Manifest) -> Metric:
    """The best of them."""
    return min(baselines(manifest), key=lambda b: -b.value if b.higher_is_better else b.value)


def unsure(baseline: Metric) -> bool:
    """Whether the samples leave it open that the baseline is as good as the model, or better."""
    return baseline.interval is not None and baseline.interval[0] <= 0


def costs(manifest: Manifest) -> Finding:
    """What each recipe costs in the metric and in the outputs, at worst, and what is had for it in size."""
    rows = []
    for recipe, records in grouped(manifest, "recipe").items():
        drops = [a.metric.drop for a in records if a.metric]
        losses = [loss for a in records if (loss := lost(a)) is not None]
        sizes = [100 * a.bytes / a.float_bytes for a in records if a.file and a.float_bytes]
        worse = words.signed(max(drops)) if drops else "-"
        off = words.share(error(min(losses))) if losses else "-"
        rows.append(Row(cells=(recipe, worse, off, _span(sizes)), bad=any(map(_over, records))))
    metrics = dict.fromkeys(a.metric.name for a in manifest.artifacts if a.metric)
    losses = [loss for a in manifest.artifacts if (loss := lost(a)) is not None]
    ends = f", {decibels(min(losses))} at worst" if losses else ""
    return Finding(
        headline=_cost(manifest),
        columns=("recipe", f"{next(iter(metrics), 'metric')} worse", "outputs off", "size"),
        rows=rows,
        detail=f"The worst of the targets. Outputs: their error beside their own spread{ends}. Size: beside float32.",
    )


def choices(manifest: Manifest) -> list[Choice]:
    """The file to ship for each target: the smallest that passes and keeps the metric."""
    return [_choice(manifest, target, records) for target, records in grouped(manifest, "target").items()]


def steps(manifest: Manifest, folder: str = "OUT/") -> list[Step]:
    """What to do next, the most urgent first."""
    found: list[Step] = []
    records = manifest.artifacts
    installs = dict.fromkeys(line for a in records for reason in a.reasons for line in INSTALL.findall(reason))
    measured = any(a.metric for a in records)
    failed = [a for a in records if a.verdict != "pass"]
    written = [a for a in failed if a.file and not any(map(INSTALL.search, a.reasons))]
    recipes = {a.recipe for a in records}
    if any(_over(a) for a in records) and "fp16" not in recipes:
        again = _export(manifest, folder, "--recipe fp16")
        found.append(Step(command=again, why="float16 costs less accuracy than int8"))
    if any("was not measured" in reason and "metric" in reason for a in failed for reason in a.reasons):
        again = _export(manifest, folder, "--eval-data F")
        found.append(Step(command=again, why="with targets in F, the metric can be measured"))
    if written and not found:
        file = shlex.quote(written[0].file)
        found.append(Step(command=f"edgepass inspect {folder}{file}", why="shows what the file holds"))
    if not failed and records and quality(manifest).tone == "caution" and manifest.model.columns:
        fit = "edgepass fit DATA.csv --horizon {} --lookback {} --preset multi-s -o RUN/".format(*_lengths(manifest))
        found.append(Step(command=fit, why="a model that is better than its baselines comes before any export of it"))
    if not measured and not failed and records:
        bound = [] if "max_metric_drop" in manifest.gates else ["--max-metric-drop 1%"]
        again = _export(manifest, folder, "--eval-data F", *bound)
        found.append(Step(command=again, why="with targets in F, says how good the model is and holds files to it"))
    if records and not failed and not found:
        trust = " --trust" if ".py:" in manifest.model.source else ""  # the user's own file, which validate runs
        found.append(
            Step(command=f"edgepass validate {folder}{trust}", why="judges the same bytes again, for example in CI")
        )
        found.append(Step(command=f"edgepass benchmark {folder}", why="times every file, on the computer it is run on"))
    why = "brings what a file was not written, or not judged, for want of"
    return [Step(command=line, why=why) for line in installs] + found


def lost(record: ArtifactRecord) -> float | None:
    """Centred SQNR of a file against the float model, in dB; None where there is none."""
    if record.loss is not None and record.loss.file_db is not None:
        return record.loss.file_db
    return record.parity.centred_db if record.parity else None


def error(centred_db: float) -> float:
    """A centred SQNR as the size of the error beside the outputs' own spread."""
    return float(10 ** (-centred_db / 20))


def _choice(manifest: Manifest, target: str, records: list[ArtifactRecord]) -> Choice:
    groups: dict[str, list[ArtifactRecord]] = {}
    for record in records:  # files of one recipe have all methods of the model between them
        groups.setdefault(record.recipe, []).append(record)
    fit = [group for group in groups.values() if all(a.verdict == "pass" and a.file for a in group)]
    if not fit:
        worst = next((a for a in records if a.verdict != "pass"), records[0])
        why = words.sentence(worst.reasons[0]) if worst.reasons else "No file passes."
        return Choice(target=target, record=None, why=why)
    kept = [group for group in fit if all(_keeps(manifest, a) for a in group)]
    group = min(kept, key=_bytes) if kept else min(fit, key=_drop)
    chosen = min(group, key=_decibels)
    if len(groups) == 1:
        why = "the only file"
    elif len(fit) == 1:
        why = "the only file that passes"
    elif kept:
        why = "the smallest that passes"
    else:
        why = "the least loss of those that pass"
    told = [why]
    if whole := sum({a.file: a.float_bytes or 0 for a in group}.values()):
        told.append(f"{100 * _bytes(group) / whole:.0f} % of float32")
    if chosen.metric:
        told.append(f"{chosen.metric.name} {words.change(chosen.metric)}")
        if quality(manifest).tone == "pass" and not _beats(manifest, chosen):
            told.append(f"no longer better than {_named(best_baseline(manifest))[0]}")
    elif (centred := lost(chosen)) is not None:
        told.append(f"outputs off by {words.share(error(centred))}")
    files = tuple(dict.fromkeys(a.file for a in group))
    return Choice(target=target, record=chosen, why="; ".join(told), files=files, bytes=_bytes(group))


def _bytes(group: Sequence[ArtifactRecord]) -> int:
    return sum({a.file: a.bytes for a in group}.values())


def _decibels(record: ArtifactRecord) -> float:
    found = lost(record)
    return math.inf if found is None else found


def _drop(group: Sequence[ArtifactRecord]) -> float:
    return max(a.metric.drop if a.metric else math.inf for a in group)


def _keeps(manifest: Manifest, record: ArtifactRecord) -> bool:
    """Whether a file's metric is good enough to choose it for its size."""
    if record.metric is None:
        return True
    if record.metric.drop > record.bounds.get("max_metric_drop", SMALL):
        return False
    return quality(manifest).tone != "pass" or _beats(manifest, record)


def _beats(manifest: Manifest, record: ArtifactRecord) -> bool:
    """Whether the file itself is better than the best baseline, where both were scored alike."""
    best, metric = best_baseline(manifest), record.metric
    if metric is None or metric.samples != best.samples or metric.name != _named(best)[1]:
        return True
    return metric.value > best.value if best.higher_is_better else metric.value < best.value


def _over(record: ArtifactRecord) -> bool:
    """Whether a file lost more accuracy than it may, as its gates judge: the least output's centred SQNR."""
    drop, sqnr = record.bounds.get("max_metric_drop"), record.bounds.get("min_sqnr")
    lost_db = record.parity.centred_db if record.parity else None
    confident = bool(record.bounds.get("confident"))
    worse = drop is not None and record.metric is not None and not record.metric.held(confident=confident) <= drop
    noisy = sqnr is not None and lost_db is not None and not lost_db >= sqnr
    return worse or noisy


def _cost(manifest: Manifest) -> str:
    """The worst that any recipe does to the metric, or to the outputs."""
    worst = max((a.metric for a in manifest.artifacts if a.metric), key=lambda metric: metric.drop, default=None)
    losses = [loss for a in manifest.artifacts if (loss := lost(a)) is not None]
    if worst is not None:
        return f"{worst.name} {'no worse' if worst.drop < EVEN else words.change(worst, 'at most ')}"
    return f"Outputs off by at most {words.share(error(min(losses)))}" if losses else "Not known"


def _named(baseline: Metric) -> tuple[str, str]:
    """Which model it is of, and which metric it is: `mse: ridge` is ridge's mse."""
    what, colon, name = baseline.name.partition(": ")
    return (name, what) if colon else (baseline.name, "")


def _typical(manifest: Manifest, mse: float, what: str) -> str:
    """A mean squared error as an error in the series' own unit, where there is one series."""
    scales = manifest.model.scales
    if what != "mse" or len(scales) != 1:
        return ""
    unit = words.unit(manifest.model.columns[0]) or f"in units of {manifest.model.columns[0]}"
    return f" That is an error of {number(math.sqrt(mse) * scales[0])} {unit}, root mean square."


def _made_up(manifest: Manifest) -> bool:
    return any(d.role == "evaluation" and d.synthetic for d in manifest.data)


def _span(values: Sequence[float]) -> str:
    low, high = (f"{value:.0f}" for value in (min(values, default=0.0), max(values, default=0.0)))
    return "-" if not values else f"{low} %" if low == high else f"{low}\N{EN DASH}{high} %"


def _lengths(manifest: Manifest) -> tuple[object, object]:
    """Horizon and lookback of a forecaster."""
    given, wanted = manifest.model.inputs[0].shape, manifest.model.outputs[0].shape
    return tuple(shape[-2] if len(shape) > 1 else "ROWS" for shape in (wanted, given))  # type: ignore[return-value]


def _export(manifest: Manifest, folder: str, *advice: str) -> str:
    """The command that writes these files again, under the same bounds, with `advice` besides.

    MODEL stands for a class, which Python gave; F for data that the model does not bring, and NAME.toml for a recipe of
    the user's own: a manifest does not say where they lie. Nor does it say whether a .py or a RUN/ folder was given
    other data than it brings, nor whether metric, threads and evaluation samples were chosen: those are as by default.
    """
    model, records = manifest.model, manifest.artifacts
    roles = {d.role: d for d in manifest.data}
    trained = "train" in roles  # a RUN/ folder, and nothing else, says what it learnt from
    source = "MODEL" if CLASS.fullmatch(model.source) and not trained else model.source
    asked = [f"--target {shlex.quote(name)}" for name in dict.fromkeys(a.target for a in records)]
    recipes = [name for name in dict.fromkeys(a.recipe for a in records) if name != "unknown"]
    asked += [f"--recipe {shlex.quote(f'{name}.toml' if name in manifest.recipes else name)}" for name in recipes]
    if model.max_batch:
        asked.append(f"--max-batch {model.max_batch}")
    if model.sequence:
        asked.append(f"--sequence {model.sequence}")
    if any(record.keeps_state for record in records):
        asked.append("--keep-state")
    asked += [f"--dynamic {shlex.quote(str(varying))}" for varying in model.dynamic]
    brings = trained or ".py:" in model.source
    asked += [flag for role, flag in DATA.items() if role in roles and not (brings or roles[role].synthetic)]
    if "calibration" in roles:
        asked.append(f"--calibration-samples {roles['calibration'].rows}")
    if manifest.seed and not trained:
        asked.append(f"--seed {manifest.seed}")
    asked += [_bound(name, value) for name, value in manifest.gates.items() if name in UNITS]
    words = [*asked, *(said for said in advice if said not in asked)]
    return " ".join(["edgepass export", shlex.quote(source), f"-o {folder} --overwrite", *words])


def _bound(name: str, value: float) -> str:
    """A bound as an option of the command line."""
    flag, unit = f"--{name.replace('_', '-')}", UNITS[name]
    figure = format(Decimal(f"{value * (100 if unit == '%' else 1):.15g}"), "f")
    return f"{flag} {figure}{unit}" if unit else flag
