"""Export of the demo model to three targets in static int8, against the three converters called one after another."""

import os
import sys
import time
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from runtime_tests.bench.measure import Row, Section, answer, check, fresh

ROUNDS = 3
AIM_TIME, AIM_MEMORY = 1.15, 1.1
SQNR_SLACK_DB = 1.0
RUNTIMES = {"executorch": ".pte", "coreml": ".mlpackage", "tflite": ".tflite"}
DATA = "data.npz"
# What both sides import sooner or later, imported first, so that the work can be told from it.
CONVERTERS = (
    "executorch.backends.xnnpack.partition.xnnpack_partitioner",
    "executorch.backends.xnnpack.quantizer.xnnpack_quantizer",
    "executorch.exir",
    "torchao.quantization.pt2e.quantize_pt2e",
    "coremltools",
    "litert_torch",
    "litert_torch.quantize.pt2e_quantizer",
    "litert_torch.quantize.quant_config",
)
HELPS = (
    "The rival is helped twice, because the model does not convert by the documented routes: a copy follows attention "
    '(ExecuTorch: "Cannot view a tensor with shape ...") and aliases are dropped (coremltools: "Unsupported fx node '
    'alias").'
)
MORE = "Ours also rounds weights by GPTQ and lists what the delegate declined, which the rival does not."


def run(rounds: int = ROUNDS, subject: str = "demo") -> Section:
    """The least of several fresh processes, turn about."""
    found: dict[str, list[tuple[float, ...]]] = {"ours": [], "rival": []}
    with TemporaryDirectory() as name:
        for number in range(rounds):
            for side in ("ours", "rival") if number % 2 == 0 else ("rival", "ours"):
                folder = Path(name) / f"{side}-{number}"
                folder.mkdir()
                wall, said = fresh("export", side, subject, folder=folder)
                found[side].append((wall, said["cpu"], said["work"], said["peak"] / 2**20))
        quality = _compare(Path(name) / "ours-0", Path(name) / "rival-0")
    ours, rival = ([min(column) for column in zip(*found[side], strict=True)] for side in ("ours", "rival"))
    whats = ("process, imports included", "its CPU time", "work, without imports", "peak resident memory")
    columns = zip(whats, ours, rival, ("s", "s", "s", "MiB"), (AIM_TIME, AIM_TIME, AIM_TIME, AIM_MEMORY), strict=True)
    return Section(
        title="Export of the demo model, static int8, to .pte, .mlpackage and .tflite",
        how=(
            f"The least of {rounds} fresh processes a side, turn about, one thread each; CPU time is the number that "
            "other work on the machine disturbs least. Ours is capture and `pipeline.write`, with no "
            "judging. The rival is ExecuTorch's, coremltools' and litert-torch's own static int8 route in one process, "
            "each with its own torch.export and calibration on the same 256 samples."
        ),
        rows=[Row(what=w, ours=o, rival=r, unit=u, aim=a) for w, o, r, u, a in columns],
        remarks=[f"SQNR of the files against torch, ours and the rival's: {quality}.", MORE, HELPS],
    )


def _compare(ours: Path, rival: Path) -> str:
    """Runs all six files; raises when one of ours is further from torch than the rival's."""
    from edgepass.judging import parity
    from edgepass.runtimes import _child

    data = np.load(ours / DATA)
    said = []
    for runtime, suffix in RUNTIMES.items():
        db = []
        for folder in (ours, rival):
            (file,) = folder.glob(f"*{suffix}")
            outputs = _child.run(runtime, file, [data["x"]], threads=1, latency_runs=1).outputs
            db.append(parity.compare(data["y"], outputs[0].reshape(data["y"].shape)).sqnr_db)
        check(db[0] >= db[1] - SQNR_SLACK_DB, f"{suffix}: {db[0]:.1f} dB against the rival's {db[1]:.1f}")
        said.append(f"{suffix} {db[0]:.1f} and {db[1]:.1f} dB")
    return ", ".join(said)


def main(side: str, name: str, folder: Path) -> None:
    """One side, in its own process."""
    for module in CONVERTERS:
        import_module(module)
    import torch

    from runtime_tests.bench.models import SUBJECTS

    torch.set_num_threads(1)
    if side == "ours":
        from edgepass import pipeline
        from edgepass.exporters import Job, _capture
        from edgepass.plan import Plan

        subject = SUBJECTS[name]()
        start = time.perf_counter()
        plan = Plan.of(tuple(RUNTIMES), ("static_wi8_ai8",))
        program = _capture.capture(subject.model, subject.args)
        pipeline.write({"": partial(Job, program, calibration=lambda: subject.calibration)}, plan, "ours", folder)
    else:
        from runtime_tests.bench import rivals

        subject = SUBJECTS[name]()
        start = time.perf_counter()
        rivals.executorch_static(subject, folder / "rival.pte")
        rivals.coreml_static(subject, folder / "rival.mlpackage")
        rivals.tflite_static(subject, folder / "rival.tflite")
    work = time.perf_counter() - start

    from edgepass.runtimes import _memory

    peak = _memory.peak()
    cpu = sum(os.times()[:4])  # of this process and of those that it waited for, such as flatc
    with torch.inference_mode():
        y = np.stack([subject.model(*args).numpy() for args in subject.held_out])
    np.savez(folder / DATA, x=np.stack([args[0].numpy() for args in subject.held_out]), y=y)
    answer(folder, cpu=cpu, work=work, peak=peak)
    sys.stdout.flush()
    os._exit(0)  # what takes a process long to leave is no part of an export


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
