"""From what was judged to the manifest and the golden samples beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from edgepass.errors import listed
from edgepass.judging import gates, host, manifest, parity, sampling
from edgepass.judging.candidate import Standard
from edgepass.judging.comparison import too_few
from edgepass.judging.figures import number
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import ArtifactRecord, Manifest, ModelInfo, StateSpec, TensorSpec, Varying
from edgepass.runtimes import Array
from edgepass.samples import Samples
from edgepass.task import Task

GOLDEN_SAMPLES = 4
PACKAGES = (
    "edgepass", "torch", "executorch", "torchao", "coremltools", "litert-torch", "ai-edge-litert",
    "ai-edge-quantizer", "onnx", "onnxruntime", "numpy",
)  # fmt: skip


def golden(standard: Standard, judged: list[tuple[ArtifactRecord, list[Array]]]) -> dict[str, Array]:
    """A few samples with every output of the model and of each file whose record has a key for them."""
    of = manifest.prefix(standard.method)
    rows = standard.samples.rows(min(GOLDEN_SAMPLES, standard.samples.length or GOLDEN_SAMPLES))
    tensors = {f"{of}state_{i}": x for i, x in enumerate(standard.samples.state)}
    tensors |= {f"{of}input_{i}": x[rows] for i, x in enumerate(standard.samples.inputs)}
    tensors |= {f"{of}reference_{j}": r[rows] for j, r in enumerate(standard.reference)}
    if standard.samples.targets is not None:
        tensors[f"{of}target"] = standard.samples.targets[rows]
    for record, outputs in judged:
        if record.golden and record.method == standard.method:
            tensors |= {f"{record.golden}_{j}": o[rows] for j, o in enumerate(outputs)}
    return tensors


def save_golden(
    folder: Path, standards: Mapping[str, Standard], judged: list[tuple[ArtifactRecord, list[Array]]]
) -> list[ArtifactRecord]:
    """Save the golden samples of each method, for the report and for apps to test against; records name their keys."""
    keyed = [
        (replace(r, golden=f"{manifest.prefix(r.method)}{r.target}.{r.recipe}") if outputs else r, outputs)
        for r, outputs in judged
    ]
    # Not save_file, which makes a file that only its owner may read.
    tensors = {
        key: np.ascontiguousarray(value)
        for standard in standards.values()
        for key, value in golden(standard, keyed).items()
    }
    (folder / manifest.GOLDEN).write_bytes(save(tensors))
    return [record for record, _ in keyed]


def manifest_of(
    task: Task,
    standard: Standard,
    records: list[ArtifactRecord],
    bounds: Gates,
    max_batch: int | None = None,
    captured: str = "",
    dynamic: Sequence[Varying] = (),
) -> Manifest:
    """What is written down about one export or validation; `captured` is what torch.export changed."""
    roles = {"calibration": task.calibration, "evaluation": standard.samples}
    parameters = sum(p.numel() for p in task.module.parameters())
    batch = standard.samples.inputs[0].shape[1] if max_batch else None
    kept = state(task.state, standard)
    lengths = [b for b in standard.batches if b.axis]
    keeping = [record.file for record in records if record.keeps_state]
    return Manifest(
        verdict=gates.worst([record.verdict for record in records]),
        model=ModelInfo(
            name=task.name,
            source=task.source,
            inputs=_specs(standard.inputs, standard.arguments, batch, [b.samples.inputs for b in lengths]),
            outputs=_specs(standard.outputs, standard.reference, batch, [b.reference for b in lengths]),
            parameters=parameters,
            columns=list(task.columns),
            levels=list(task.levels),
            title=task.title,
            step=task.step,
            scales=list(task.scales),
            starts=_starts(standard.samples),
            max_batch=max_batch,
            batch=batch,
            dynamic=list(dynamic),
            captured=captured,
            state=kept,
            sequence=task.sequence,
        ),
        versions=versions(),
        seed=task.seed,
        gates=bounds.set(),
        data=task.data + [samples.info(role) for role, samples in roles.items() if samples is not None],
        artifacts=records,
        baselines=task.baselines,
        notes=[
            *([captured] if captured else []),
            *([_fed(kept, task.sequence, keeping, len(records))] if kept else []),
            *sampling.notes(task.calibration, standard.samples, standard.inputs[: len(standard.samples.inputs)]),
            *standard.comparison[1],
            *next((parity.notes(record.parity) for record in records if record.parity), []),
            *too_few([record.metric for record in records if record.metric]),
        ],
        host=host.this(),
        date=host.now(),
    )


def together(parts: Mapping[str, Manifest], records: list[ArtifactRecord]) -> Manifest:
    """The manifest of a model from those of its methods, by their names; that of its one method as it is.

    records: those of all files, in order; they pass or fail as one.
    """
    first = next(iter(parts.values()))
    if list(parts) == [""]:
        return first
    dynamic = dict.fromkeys(varying for part in parts.values() for varying in part.model.dynamic)
    methods = [replace(part.model, name=method) for method, part in parts.items()]
    return replace(
        first,
        verdict=gates.worst([record.verdict for record in records]),
        model=replace(first.model, dynamic=list(dynamic), methods=methods),
        data=[replace(info, method=method) for method, part in parts.items() for info in part.data],
        artifacts=records,
        notes=[f"{method}: {note}" for method, part in parts.items() for note in part.notes],
    )


def state(names: Sequence[str], standard: Standard) -> list[StateSpec]:
    """What the model keeps from call to call."""
    samples = standard.samples
    given, outputs = len(samples.inputs), len(standard.reference) - len(samples.state)
    return [
        StateSpec(
            name=name,
            shape=x.shape,
            dtype=str(x.dtype),
            input=standard.inputs[given + number],
            output=standard.outputs[outputs + number],
            initial=float(x.flat[0]) if (x == x.flat[:1]).all() else None,
        )
        for number, (name, x) in enumerate(zip(names, samples.state, strict=True))
    ]


def _fed(kept: Sequence[StateSpec], calls: int | None, keeping: Sequence[str], files: int) -> str:
    """How an app feeds it, in a sentence."""
    first = [
        f"{s.input} is {number(s.initial) if s.initial is not None else f'state_{n} of {manifest.GOLDEN}'}"
        for n, s in enumerate(kept)
    ]
    within = f"; within {listed(keeping)} it is kept, until that is loaded anew" if keeping else ""
    how = f"sequences of {calls} calls" if calls else "one sequence of calls"
    if len(keeping) == files:
        return f"the model keeps state, and so do its files, until they are loaded anew; they are judged over {how}"
    inputs, outputs = (listed([getattr(s, side) for s in kept]) for side in ("input", "output"))
    return (
        f"the model keeps state, which its files take and give: in the first call {listed(first)}; in every other, "
        f"{inputs} is what {outputs} was in the one before; they are judged so, over {how}{within}"
    )


def _starts(samples: Samples) -> list[str]:
    """When the golden samples' forecasts begin."""
    if samples.starts is None:
        return []
    starts = samples.starts[samples.rows(GOLDEN_SAMPLES)]
    return [str(moment) for moment in np.datetime_as_string(starts, unit="s")]


def _specs(
    names: Sequence[str], arrays: Sequence[Array], batch: int | None, others: Sequence[Sequence[Array]]
) -> list[TensorSpec]:
    """`batch` is the first dimension of what varies with it; `others` are the same arrays at other lengths."""
    made: list[TensorSpec] = []
    for place, (name, array) in enumerate(zip(names, arrays, strict=True)):
        shape: list[int | None] = list(array.shape[1:])
        if batch is not None and shape[:1] == [batch]:
            shape[0] = None
        for other in others:
            shape = [n if n == m else None for n, m in zip(shape, other[place].shape[1:], strict=True)]
        made.append(TensorSpec(name=name, shape=tuple(shape), dtype=str(array.dtype)))
    return made


def versions() -> dict[str, str]:
    """Of the packages that make or run artifacts, those that are installed."""
    found: dict[str, str] = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
