"""What a manifest says and is no longer so, figure by figure, once its files have been measured again.

Bytes, hashes, names and counts are held to the letter. Outputs of one file are the same numbers on one host and near to
them on another, so figures made of them may differ by TOLERANCE. Time and memory are held only on the host that the
manifest names, and only to a factor: noise is no lie.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgepass.arrays import named_arrays
from edgepass.errors import InputError, one_line
from edgepass.judging import gates
from edgepass.judging.manifest import (
    CONVERSION,
    GOLDEN,
    NOT_BELIEVED,
    ArtifactRecord,
    Conversion,
    Excess,
    Latency,
    Manifest,
    Metric,
    strangers,
)
from edgepass.judging.parity import SQNR_CAP_DB, Parity
from edgepass.runtimes import Array

TOLERANCE_DB = 0.5
FLOAT_DB = 80.0
"""From here on noise is that of float32, which another order of sums changes: by no more than what follows."""
FLOAT_HERE_DB, FLOAT_THERE_DB = 6.0, 20.0
TOLERANCE = 0.01
"""Relative, of metrics, of the largest error, and of golden outputs where another host made them."""
EXACT = 1e-5
"""The same for golden samples on the host that made them: a sum in another order."""
LATENCY, MEMORY = 10.0, 3.0
"""Factors within which a host that does other work may time and take."""
RUNS = 20
"""The median of fewer runs is that host's noise, and is not held."""
SIZED = re.compile(r"at (a batch of )?\d+( along dimension \d+)?: ")


def of_record(
    said: ArtifactRecord, found: ArtifactRecord, *, changed: Collection[str], same_host: bool
) -> Iterator[str]:
    """A sentence for each figure of the record `said` that the new one contradicts.

    changed: the roles of data that are not those of the manifest.
    """
    read = found.content_sha256 != ""  # one whose runtime is not installed is not
    if read and said.bytes != found.bytes:
        yield _differs("its size", f"{said.bytes} bytes", f"{found.bytes} bytes")
    if read and said.content_sha256 != found.content_sha256 and (said.content_sha256 or said.verdict == "pass"):
        yield f"{said.file} is not the file that the manifest tells of: its content hash differs"
    if said.verdict == "pass" and found.verdict == "fail":
        yield "the manifest says that it passes, and it fails"
    if said.verdict == "fail" and (why := next(_unasked(said, found), "")):
        yield f"it failed when it was exported, by what is not asked again here: {why}"
    yield from _of_contents(said, found)
    if "evaluation" not in changed:
        yield from _of_outputs(said, found, same_host=same_host)
    if same_host and not changed and said.loss and found.loss:  # the graph's roundings follow the calibration's sums
        what = "the expected loss"
        yield from _of_ratio(what, said.loss.expected_db, found.loss.expected_db, same_host=same_host)
    if same_host and said.latency and found.latency and _comparable(said.latency, found.latency):
        yield from _of_noise("its median latency in microseconds", said.latency.p50_us, found.latency.p50_us, LATENCY)
    if same_host and said.memory and found.memory and said.memory.peak_bytes and found.memory.peak_bytes:
        yield from _of_noise("its peak memory in bytes", said.memory.peak_bytes, found.memory.peak_bytes, MEMORY)


def of_golden(
    golden: Mapping[str, Array], made: Mapping[str, Array], records: Sequence[ArtifactRecord], *, same_host: bool
) -> Iterator[str]:
    """A sentence for each golden tensor that is missing, or that what was computed again contradicts."""
    for key, array in made.items():
        owner = next((r.file for r in records if r.golden and key.startswith(f"{r.golden}_")), "the model")
        if key not in golden:
            yield f"{GOLDEN} lacks {key}, a golden sample of {owner}"
        elif golden[key].shape != array.shape or not _near(golden[key], array, EXACT if same_host else TOLERANCE):
            yield f"{GOLDEN} holds for {key} other numbers than {owner} gives"
    owned = tuple(f"{record.golden}_" for record in records if record.golden)
    for key in sorted(golden.keys() - made.keys()):
        if not key.startswith(owned):  # one that is owned has given no output now, and says so itself
            yield f"{GOLDEN} holds {key}, which is of no file here"


def of_strangers(folder: Path, said: Manifest, found: Manifest) -> Iterator[str]:
    """A sentence where there are files that the manifest does not list.

    What the files were found to consist of is theirs, listed or not: whether it is as it was is told by their hash.
    """
    beside = {name for a in found.artifacts for name in a.beside}
    if others := strangers(folder, {a.file for a in said.artifacts} | beside):
        yield f"the folder holds what its manifest does not list: {', '.join(map(one_line, others[:5]))}"


def of_model(said: Manifest, found: Manifest) -> Iterator[str]:
    """A sentence for what the manifest says of the model, or of a method of it, and is not so."""
    for what, old, new in (
        ("parameters", said.model.parameters, found.model.parameters),
        ("inputs", said.model.inputs, found.model.inputs),
        ("outputs", said.model.outputs, found.model.outputs),
        ("state", said.model.state, found.model.state),
    ):
        if old != new:
            yield f"the manifest tells of other {what} of the model than it has"


def of_data(said: Manifest, found: Manifest) -> list[str]:
    """The roles of data that are here and are not the manifest's."""
    hashes = {info.role: info.sha256 for info in found.data}
    return [info.role for info in said.data if hashes.get(info.role, info.sha256) != info.sha256]


def of_metric(said: Manifest, found: Manifest) -> Iterator[str]:
    """A sentence where files that were run again have another metric than the manifest's, or none."""
    for old, new in zip([a for a in said.artifacts if a.file], found.artifacts, strict=True):
        name = new.metric.name if new.metric else None
        if old.metric and new.parity and name != old.metric.name:
            yield (
                f"files are scored here by {name or 'no metric'}, and by {old.metric.name} in the manifest, so what it "
                "says of that is not held; give --metric as in the export"
            )
            return


def read_golden(folder: Path) -> dict[str, Array]:
    """The golden samples; none where there is no such file. Raises InputError where it cannot be read."""
    path = folder / GOLDEN
    if not path.is_file():
        return {}
    try:
        return named_arrays(path)
    except InputError as error:
        raise InputError(f"{error}; export again") from None


def _unasked(said: ArtifactRecord, found: ArtifactRecord) -> Iterator[str]:
    """Reasons of the old record that tell of the conversion, or of another size of a batch, and were not asked now.

    What only an export has, the target's float32 file above all, is no ground for another verdict than its own.
    """
    again = {batch.at: batch for batch in found.batches}
    for reason in said.reasons:
        text, asked, lost = reason, _asked(found.conversion), False
        if at := SIZED.match(reason):
            batch = again.get(at[0])
            text, lost = reason[at.end() :], batch is None
            asked = _asked(batch.conversion, batch.apart) if batch else []
        converted = text.startswith(CONVERSION) and not any(words in text for words in asked)
        if lost or converted or NOT_BELIEVED in text:
            yield reason


def _asked(found: Conversion | None, apart: Sequence[Excess] = ()) -> list[str]:
    """What reasons say that were asked for."""
    ways = {
        gates.NOISE: bool(apart or (found and found.excess)),
        gates.WEIGHT: bool(found and found.weights),
        gates.FLOAT32: bool(found and (found.float32 or found.float32_agreement)),
        gates.OPERATION: bool(found and found.operations and found.operations.compared),
    }
    return [words for words, asked in ways.items() if asked]


def _of_outputs(said: ArtifactRecord, found: ArtifactRecord, *, same_host: bool) -> Iterator[str]:
    if said.parity and found.parity:
        yield from _of_parity("", said.parity, found.parity, same_host=same_host)
        if abs(said.parity.cosine - found.parity.cosine) > TOLERANCE:
            yield _differs("its cosine", f"{said.parity.cosine:.4f}", f"{found.parity.cosine:.4f}")
    again = {batch.at: batch for batch in found.batches}
    for batch in said.batches:
        before, now = batch.parity, again[batch.at].parity if batch.at in again else None
        if before and now:
            yield from _of_parity(f" {batch.at.removesuffix(': ')}", before, now, same_host=same_host)
    if said.ranking and found.ranking:
        old, new = ((r.flips, r.answers) for r in (said.ranking, found.ranking))
        yield from _of_counts("its classes that are others", old, new)
    if said.loss and found.loss:
        yield from _of_ratio("its loss", said.loss.file_db, found.loss.file_db, same_host=same_host)
    if said.metric and found.metric and said.metric.name == found.metric.name:
        yield from _of_metric(said.metric, found.metric, same_host=same_host)


def _of_parity(where: str, said: Parity, found: Parity, *, same_host: bool) -> Iterator[str]:
    yield from _of_ratio(f"its SQNR{where}", said.sqnr_db, found.sqnr_db, same_host=same_host)
    if said.samples != found.samples:
        yield _differs(f"its number of samples{where}", str(said.samples), str(found.samples))
    yield from _of_ratio(f"its centred SQNR{where}", said.centred_db, found.centred_db, same_host=same_host)
    for old, new in zip(said.outputs, found.outputs, strict=False):
        if old.whole and new.whole:
            what = f"its centred SQNR of {new.name}{where}"
            yield from _of_ratio(what, old.whole.centred_db, new.whole.centred_db, same_host=same_host)
        if old.agreement and new.agreement:
            counts = ((a.differing, a.elements) for a in (old.agreement, new.agreement))
            yield from _of_counts(f"its integers of {new.name}{where} that are others", *counts)


def _of_metric(said: Metric, found: Metric, *, same_host: bool) -> Iterator[str]:
    """Of single samples nothing is held where another host has other roundings."""
    for what, old, new in (
        (said.name, said.value, found.value),
        (f"the float model's {said.name}", said.reference, found.reference),
    ):
        if abs(old - new) > TOLERANCE * max(abs(old), abs(new)):
            yield _differs(what, f"{old:.6g}", f"{new:.6g}")
    if same_host and said.interval and found.interval:
        pairs = list(zip(said.interval, found.interval, strict=True))
        if any(abs(old - new) > TOLERANCE * max(1.0, abs(old), abs(new)) for old, new in pairs):
            told = (f"{100 * low:.3g} to {100 * high:.3g} %" for low, high in (said.interval, found.interval))
            yield _differs("the 95 % interval of its drop", *told)
    before, now = said.not_worse, found.not_worse
    if same_host and before is not None and now is not None and abs(before - now) > TOLERANCE:
        yield _differs("its share of samples that are not worse", f"{before:.1%}", f"{now:.1%}")


def _of_contents(said: ArtifactRecord, found: ArtifactRecord) -> Iterator[str]:
    """What is of the file alone, and of the metric whatever the data."""
    old, new = said.delegated_flops, found.delegated_flops
    if old is not None and new is not None and abs(old - new) > TOLERANCE:
        yield _differs("its delegated share", f"{old:.1%}", f"{new:.1%}")
    old, new = (a.coverage if a else None for a in (said.audit, found.audit))
    if old is not None and new is not None and old != new:
        yield _differs("its audited coverage", f"{old:.6%}", f"{new:.6%}")
    before, now = said.metric, found.metric
    if before and now and before.name == now.name and before.higher_is_better != now.higher_is_better:
        better, worse = ("higher", "lower") if before.higher_is_better else ("lower", "higher")
        yield f"the manifest says that a {better} {before.name} is better, and a {worse} one is"


def _of_ratio(what: str, said: float | None, found: float | None, *, same_host: bool) -> Iterator[str]:
    """Decibels. Float32 noise is not the same noise in the kernels of two hosts, or none at all in those of one."""
    if said is None or found is None:
        return
    most = TOLERANCE_DB if found < FLOAT_DB else FLOAT_HERE_DB if same_host else FLOAT_THERE_DB
    equal = not same_host and max(said, found) >= SQNR_CAP_DB and min(said, found) >= FLOAT_DB
    if abs(said - found) > most and not equal:
        yield _differs(what, f"{said:.1f} dB", f"{found:.1f} dB")


def _of_counts(what: str, said: tuple[int, int], found: tuple[int, int]) -> Iterator[str]:
    """How many of how many; two numbers may tie, so one more or less says nothing."""
    if said[1] != found[1] or abs(said[0] - found[0]) > 1 + TOLERANCE * found[1]:
        yield _differs(f"the number of {what}", *(f"{count} of {whole}" for count, whole in (said, found)))


def _comparable(old: Latency, new: Latency) -> bool:
    return old.threads == new.threads and min(old.runs, new.runs) >= RUNS


def _of_noise(what: str, old: float, new: float, factor: float) -> Iterator[str]:
    if not 1.0 / factor <= old / max(new, 1e-9) <= factor:
        yield f"{_differs(what, f'{old:.3g}', f'{new:.3g}')}, more than a factor of {factor:g}"


def _near(old: Array, new: Array, share: float) -> bool:
    scale = float(np.abs(new.astype(np.float64)).max(initial=0.0)) or 1.0
    return bool(np.allclose(old.astype(np.float64), new.astype(np.float64), rtol=0.0, atol=share * scale))


def _differs(what: str, old: str, new: str) -> str:
    return f"the manifest says that {what} is {old}, and it is {new}"
