"""Golden samples, asked again where the evaluation data are not those that they were taken from.

They hold inputs and what model and files gave for them, so they can be held against both whatever the data are.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgepass.errors import ArtifactError, DeviceOnlyError, MissingExtraError
from edgepass.judging import interface, manifest
from edgepass.judging.candidate import Standard
from edgepass.judging.manifest import GOLDEN, ArtifactRecord
from edgepass.runtimes import Array, _child
from edgepass.samples import Samples, check_arrays, check_targets, natural
from edgepass.task import Task


def replay(
    golden: Mapping[str, Array], folder: Path, task: Task, records: Sequence[ArtifactRecord], threads: int
) -> tuple[Standard, list[tuple[ArtifactRecord, list[Array]]]]:
    """The golden inputs with the model's outputs, and every record with those of its file; none of one that fails.

    Raises InputError where the inputs are not the model's, or where it gives no numbers for them.
    """
    of = manifest.prefix(task.method)
    keys = sorted((key for key in golden if key.startswith(f"{of}input_")), key=natural)
    inputs = check_arrays([golden[key] for key in keys], task.args, str(folder / GOLDEN))
    targets = golden.get(f"{of}target")
    if targets is not None:
        targets = check_targets(targets, len(inputs[0]), str(folder / GOLDEN))
    samples = Samples(inputs=inputs, targets=targets, state=task.evaluation.state if task.evaluation else [])
    standard = Standard(
        samples=samples, reference=task.reference(samples), score=None, threads=threads, method=task.method
    )
    return standard, [(record, _outputs(record, folder, standard)) for record in records]


def _outputs(record: ArtifactRecord, folder: Path, standard: Standard) -> list[Array]:
    if not record.golden:
        return []
    standard = standard.keeping if record.keeps_state else standard
    path = folder / record.file
    try:
        found = _child.run(
            record.runtime,
            path,
            standard.samples.inputs,
            method=record.method,
            state=standard.state,
            keeps=standard.keeps,
            threads=standard.threads,
            warmup=0,
            latency_runs=1,
        )
        return interface.aligned(found.outputs, standard.reference, path)
    except (ArtifactError, DeviceOnlyError, MissingExtraError):  # which its record tells
        return []
