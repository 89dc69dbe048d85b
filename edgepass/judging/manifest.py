"""The manifest: what was built, from what, and everything measured about it.

`OUT/manifest.json` is the contract with apps and CI. Its JSON schema is `schema()`; fields are only ever added.
A number that was not measured is null, never a guess, and every measured one carries its evidence level.
"""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from edgepass.errors import InputError, one_line
from edgepass.judging.figures import number
from edgepass.judging.parity import Agreement, Parity

FILE = "manifest.json"
GOLDEN = "golden.safetensors"
REPORT = "report.html"
SCHEMA = 1
SIGNATURE = "signature.json"
OURS = {FILE, GOLDEN, REPORT, SIGNATURE, ".DS_Store"}

Evidence = Literal["device", "host runtime", "emulated ISA", "reference executor", "predicted"]
Outcome = Literal["pass", "fail", "not-evaluated"]
BADNESS: tuple[Outcome, ...] = ("pass", "not-evaluated", "fail")


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One input or output. A dynamic dimension is null."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True, kw_only=True)
class Varying:
    """A dimension `axis` of inputs that may vary from `low` to `high`, in all of them together.

    `input`: the name of the only one, where it is not of all that have it in the size that the first has.
    """

    axis: int
    low: int = 1
    high: int
    input: str = ""

    def __str__(self) -> str:
        return f"{self.input and f'{self.input}:'}{self.axis}={self.low}..{self.high}"


@dataclass(frozen=True, kw_only=True)
class OutputSpec:
    """One output as an app sees it in the file, and what the model gives there. A dynamic dimension is null."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    model_shape: tuple[int | None, ...]
    model_dtype: str


@dataclass(frozen=True, kw_only=True)
class InputSpec(OutputSpec):
    """One input as an app gives it to the file, and what the model takes there. A dynamic dimension is null."""


@dataclass(frozen=True, kw_only=True)
class StateSpec:
    """A buffer that the model changes in every call: an input and an output of the files, which keep nothing.

    The first call takes `initial` for all of it, or `state_0` … of the golden samples where that is null; every other
    call takes as `input` what `output` was in the call before. Both are names of the model's inputs and outputs.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    input: str
    output: str
    initial: float | None


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """The reference model: what was exported."""

    name: str
    source: str
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    parameters: int
    preprocessing: str = "none: the file takes raw values"
    postprocessing: str = "none: the file gives raw values"
    columns: list[str] = field(default_factory=list)
    """Names of the series, for a forecaster; empty otherwise."""
    levels: list[float] = field(default_factory=list)
    """What a forecaster gives of each series, where that is several: for 0.9, what 90% of the future is below."""
    title: str = ""
    """What the model is, for a heading; empty where nothing says more than the name."""
    step: float | None = None
    """Seconds between the rows of a forecaster's series; null where they have no times."""
    scales: list[float] = field(default_factory=list)
    """The standard deviation of each series, in its own unit: what its errors are counted in; empty where not known."""
    starts: list[str] = field(default_factory=list)
    """When the forecast of each golden sample begins, as ISO 8601; empty where rows have no times.

    In UTC where the series names a time zone, else as it writes them."""
    max_batch: int | None = None
    """The largest first dimension of the files' inputs, where it may vary from 1; null where it is fixed."""
    batch: int | None = None
    """That of the evaluation and golden samples, where it may vary."""
    dynamic: list[Varying] = field(default_factory=list)
    """The other dimensions of inputs that may vary."""
    captured: str = ""
    """What torch.export made of the model that it is not, so that files are held against that; empty where nothing."""
    state: list[StateSpec] = field(default_factory=list)
    """What it keeps from call to call, in the order of its last inputs and outputs; samples are then one sequence."""
    sequence: int | None = None
    """Calls after which that began anew when files were judged; null where it never did."""
    methods: list["ModelInfo"] = field(default_factory=list)
    """Each as a model of its own by the method's name, where files hold several; all else is then of the first."""


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """One data set that took part. `role`: train, calibration, evaluation; `synthetic` data is never real."""

    role: str
    sha256: str
    rows: int
    synthetic: bool = False
    method: str = ""
    """The method that it is for, where the model has several."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """The task metric of the artifact beside the float32 reference's, on the same samples."""

    name: str
    reference: float
    value: float
    higher_is_better: bool
    samples: int
    interval: tuple[float, float] | None = None
    """Where `drop` lies with 95 % confidence: the paired bootstrap over samples. Null where it cannot be told."""
    not_worse: float | None = None
    """Share of samples on which the file is no worse than the float model, where a sample has a value of its own."""
    constant: float | None = None
    """The metric of the best answer found that is the same for every sample."""
    constant_interval: tuple[float, float] | None = None
    """Where the drop from the float model to that answer lies with 95 % confidence."""
    output: str | None = None
    """Which output it is of, and how that was read."""

    def __str__(self) -> str:
        better = "higher" if self.higher_is_better else "lower"
        return f"{self.name} {number(self.reference)} → {number(self.value)}, {better} is better"

    @property
    def drop(self) -> float:
        """Relative change in the worse direction; negative when the artifact is better."""
        worse = self.reference - self.value if self.higher_is_better else self.value - self.reference
        return worse / max(abs(self.reference), 1e-12)

    def held(self, *, confident: bool) -> float:
        """The drop that a bound judges: that at the bad end of its interval, where `confident` asks for it."""
        return max(self.drop, self.interval[1]) if confident and self.interval else self.drop


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes. `peak` is what loading and running added to a fresh process; `baseline` the same for the float model."""

    planned_bytes: int | None
    peak_bytes: int | None
    baseline_bytes: int | None
    evidence: Evidence


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Microseconds of one inference, over `runs` runs after warm-up."""

    p50_us: float
    p95_us: float
    threads: int
    runs: int
    evidence: Evidence
    baseline_us: float | None = None
    """The median of the float model as a file of the same target."""


@dataclass(frozen=True, kw_only=True)
class Fallback:
    """An operation that did not reach the accelerated backend."""

    op: str
    module: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Weight:
    """A constant found in the file. `zeros` is the fraction of exact zeros in it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    granularity: Literal["per-tensor", "per-channel", "per-block"] | None = None
    zeros: float = 0.0
    layout: str | None = None
    """What its dimensions are to the operation that reads it: O outputs, I inputs (of one group), D H W the kernel."""
    requested: str | None = None
    """What the recipe asked for this weight; null for a constant that it says nothing of."""
    reason: str | None = None
    """Why a weight that the recipe speaks of stays in float all the same; it is then not asked for."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Requested against realised number format of every weight, read from the file.

    `coverage`: share of the elements whose weight the recipe speaks of that the file really holds in that format; what
    stays in float with a reason is not counted.
    """

    requested: str
    weights: list[Weight]
    coverage: float | None


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Absolute errors against the reference: `counts[i]` of them lie in [edges[i], edges[i+1])."""

    edges: list[float]
    counts: list[int]

    def __post_init__(self) -> None:
        if len(self.edges) != len(self.counts) + 1:
            raise ValueError(f"{len(self.counts)} counts want {len(self.counts) + 1} edges, not {len(self.edges)}")


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Of the scores of classes: answers whose first class is another than the float32 model's, ties apart.

    `top_k`: share of the file's first `k` classes that are among the float32 model's; null with no more classes than k,
    and with no answers.
    """

    name: str
    answers: int
    flips: int
    k: int | None = None
    top_k: float | None = None

    @property
    def share(self) -> float:
        """Of the answers that are the same, 0.0-1.0; none at all are."""
        return 1.0 - self.flips / self.answers if self.answers else 1.0


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What the recipe costs: centred SQNR in dB of the worst output against the float32 model, on `samples` rows.

    `file_db`: of the file. `expected_db`: of the recipe's own graph, run in torch on the same rows; null for a file
    made elsewhere, for outputs that are integers, and where the graph cannot be run. Both null with a single sample.
    """

    file_db: float | None
    expected_db: float | None
    samples: int
    note: str = ""
    """Why there is no expected loss; empty where there is one."""


@dataclass(frozen=True, kw_only=True)
class Excess:
    """Noise power of the file over that of the recipe's own graph, on one output or slice, and the most it may be."""

    name: str
    file_db: float
    expected_db: float
    ratio: float
    bound: float


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Centred SQNR in dB of the target's float32 file against the float32 model, and the least it may be."""

    name: str
    centred_db: float
    bound_db: float


@dataclass(frozen=True, kw_only=True)
class WeightValues:
    """The values of weights, as the file says them, against those that the recipe's own graph computes with.

    `compared` of them were found; `differing` says by name how one of these is not the graph's; `uncompared` says by
    name why one could not be held against it.
    """

    compared: int
    differing: dict[str, str] = field(default_factory=dict)
    uncompared: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Operations:
    """Parts of a file between its int8 tensors, each fed with the integers of the recipe's own graph.

    `compared` of them were found; `differing` says of those that are not the graph's what they are off by.
    """

    compared: int
    differing: dict[str, str] = field(default_factory=dict)
    note: str = ""
    """Why none was compared."""


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What converter and runtime changed, whatever the recipe costs, asked in several ways; empty where not asked.

    Of a file made elsewhere nothing of this is known.
    """

    excess: list[Excess] = field(default_factory=list)
    """Of each output, and of the slice that comes nearest to its bound or is furthest beyond it."""
    float32: list[Kept] = field(default_factory=list)
    """Likewise, of the float32 model as a file of the same target."""
    float32_agreement: list[Agreement] = field(default_factory=list)
    """Of that file's outputs of integers, and of their worst slices."""
    samples: int = 0
    """Rows on which both were asked."""
    weights: WeightValues | None = None
    operations: Operations | None = None


AT_BATCH = "at a batch of {}: "
"""How a reason begins that holds at a size only."""
AT_SIZE = "at {} along dimension {}: "
"""The same, of another dimension that varies."""
CONVERSION = "conversion: "
"""How a reason begins, behind that, where converter or runtime changed something."""
NOT_BELIEVED = "so this one is not believed"
"""What a reason says where the target's float32 file fails."""


@dataclass(frozen=True, kw_only=True)
class AtBatch:
    """A file whose batch may vary, called with `size` of the evaluation samples' rows at a time, `rows` in all.

    With `axis`, another dimension of its inputs is of that size, in `rows` calls. `parity` and `conversion` as of the
    artifact. `alone`: the parity of the same rows at the batch of the evaluation samples; null where the model does not
    treat each row by itself. Of these rows a bound asks no more than `alone`.
    """

    size: int
    rows: int
    parity: Parity | None = None
    """Null where the file gives nothing at this size."""
    alone: Parity | None = None
    apart: list[Excess] = field(default_factory=list)
    """Noise over that of the same rows alone; `output_0[5]` is the sixth row of each batch."""
    conversion: Conversion | None = None
    reason: str = ""
    """Why the file gives nothing at this size."""
    axis: int = 0

    @property
    def at(self) -> str:
        """How a reason begins that holds here only."""
        return AT_SIZE.format(self.size, self.axis) if self.axis else AT_BATCH.format(self.size)


@dataclass(frozen=True, kw_only=True)
class ArtifactRecord:
    """One file that was asked for, or a method of one of several, and what was found out about it."""

    target: str
    file: str
    """Its name in this folder. Empty where the target gave none: `bytes` is 0, and `reasons` say why it failed."""
    beside: list[str] = field(default_factory=list)
    """Names of the other files in this folder that it consists of; `bytes` and `content_sha256` cover them."""
    bytes: int
    float_bytes: int | None = None
    """Size of the float32 model as a file of the same target."""
    content_sha256: str
    recipe: str
    verdict: Outcome
    reasons: list[str]
    """One sentence for each gate that failed or could not be evaluated."""
    runtime: str
    bounds: dict[str, float] = field(default_factory=dict)
    """Every bound that judged the file: the user's, and the recipe's own where those say nothing."""
    parity: Parity | None = None
    ranking: Ranking | None = None
    """Where targets say that an output holds the scores of classes."""
    loss: Loss | None = None
    conversion: Conversion | None = None
    """Null for a file made elsewhere, and where nothing could be run."""
    metric: Metric | None = None
    memory: Memory | None = None
    latency: Latency | None = None
    delegated_flops: float | None = None
    """0.0-1.0; null where the format has no notion of delegation (Core ML chooses on the device)."""
    fallbacks: list[Fallback] = field(default_factory=list)
    audit: Audit | None = None
    errors: Histogram | None = None
    batches: list[AtBatch] = field(default_factory=list)
    """At 1, an odd size and the largest, without that of the evaluation samples; empty where the batch is fixed."""
    notes: list[str] = field(default_factory=list)
    """Things a reader should know that are not failures: int8 slower than fp32 here, a version that was raised …"""
    outputs: list[OutputSpec] = field(default_factory=list)
    """In the file's order, which is the model's; empty of a file that did not run."""
    inputs: list[InputSpec] = field(default_factory=list)
    """Likewise."""
    keeps_state: bool = False
    """Whether it keeps the model's state itself, until it is loaded anew, and neither takes nor gives it."""
    method: str = ""
    """Which method of the file was judged, where the model has several: the file passes where each of them does.

    Empty for the one that it runs unasked, and of a file of several that was not written."""
    golden: str | None = None
    """Key prefix of this artifact's outputs in golden.safetensors."""

    @property
    def title(self) -> str:
        """What it is called in a sentence."""
        return " ".join(filter(None, [self.target, self.recipe, self.method]))


@dataclass(frozen=True, kw_only=True)
class Host:
    """The computer that judged. `system` is the name, release and machine that the operating system gives."""

    cpu: str
    cores: int
    system: str
    python: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All of it. `verdict` is the worst of the artifacts' verdicts."""

    schema: int = SCHEMA
    verdict: Outcome
    model: ModelInfo
    versions: dict[str, str]
    seed: int
    gates: dict[str, float]
    data: list[DataInfo]
    artifacts: list[ArtifactRecord]
    baselines: list[Metric] = field(default_factory=list)
    """Metrics of simpler models on the same test data (naive, ridge), for a forecaster."""
    reasons: list[str] = field(default_factory=list)
    """Of a validation: a sentence for all that no longer holds of the folder as a whole."""
    host: Host | None = None
    date: str | None = None
    """When it was judged, in UTC, as ISO 8601."""
    notes: list[str] = field(default_factory=list)
    """What a reader should know of model, data and metric, whatever the file."""
    recipes: dict[str, str] = field(default_factory=dict)
    """TOML of the recipes that are the user's own, by name."""

    @property
    def metric(self) -> Metric | None:
        """That of the first artifact which has one: all are scored alike."""
        return next(iter(self.metrics.values()), None)

    @property
    def metrics(self) -> dict[str, Metric]:
        """That of each method, by its name: all files are scored alike."""
        return {a.method: a.metric for a in reversed(self.artifacts) if a.metric}

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """The verdict on each file, which is the worst of its methods', by what it is called; those of no name too."""
        found: dict[str, Outcome] = {}
        for a in self.artifacts:
            name = a.file or a.title
            if name not in found or BADNESS.index(a.verdict) > BADNESS.index(found[name]):
                found[name] = a.verdict
        return found

    def write(self, folder: Path) -> None:
        """Write `folder`/manifest.json, keys in declaration order, so that equal content is equal bytes."""
        text = msgspec.json.format(msgspec.json.encode(self), indent=2)
        (folder / FILE).write_bytes(text + b"\n")


def read(folder: Path) -> Manifest:
    """The manifest of an output folder.

    Raises InputError when there is none, when it is not one, and when it names a file outside the folder.
    """
    path = folder / FILE
    try:
        made = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError:
        raise InputError(
            f"{folder} holds no {FILE}; name a folder that `edgepass export` wrote, "
            "or give a file and --reference MODEL to judge one made elsewhere"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not a manifest that this version reads: {error}") from None
    if made.schema != SCHEMA:
        raise InputError(
            f"{path} is of schema {made.schema}, and this version reads schema {SCHEMA}; "
            "read it with the edgepass that wrote it, or export again"
        )
    for record in made.artifacts:
        unwritten = not record.file and not record.bytes and record.verdict == "fail"
        if not unwritten and not _inside(folder, record.file):
            raise InputError(
                f"{path} names {one_line(record.file, 80)!r}, which is no file of that folder, and no other is opened; "
                "export again"
            )
    return made


def prefix(method: str) -> str:
    """What the keys of golden tensors begin with that are of a method; nothing where the model has one."""
    return method and f"{method}."


def parts(made: Manifest) -> dict[str, Manifest]:
    """What a manifest says of each method, by its name, as of a model of its own; "" of a model of one."""
    if not made.model.methods:
        return {"": made}
    return {
        model.name: replace(
            made,
            model=replace(model, name=made.model.name),
            artifacts=[record for record in made.artifacts if record.method == model.name],
            data=[replace(info, method="") for info in made.data if info.method == model.name],
        )
        for model in made.model.methods
    }


def _inside(folder: Path, file: str) -> bool:
    """Whether `file` is a name, and what it names lies in the folder, also by way of links."""
    if file in ("", ".", "..") or any(c in file for c in "/\\\0"):
        return False
    try:
        return (folder / file).resolve().parent == folder.resolve()
    except (RuntimeError, OSError):  # a link to itself, which Python calls the one or the other
        return False


def schema() -> dict[str, Any]:
    """The published JSON schema of manifest.json."""
    return msgspec.json.schema(Manifest)


def strangers(folder: Path, files: Collection[str]) -> list[str]:
    """What a folder holds beside what every export writes and `files`, which may lie in folders of it."""
    found: list[str] = []
    for entry in sorted(folder.iterdir()):
        if entry.name in OURS or entry.name in files:
            continue
        inner = {name for name in files if name.startswith(f"{entry.name}/")}
        below = [f for f in entry.rglob("*") if f.is_symlink() or not f.is_dir()] if inner else [entry]
        found += sorted({f.relative_to(folder).as_posix() for f in below} - inner)
    return found
