"""Runs a .pte whose method is one call of a delegate that this host lacks: by a reference executor of its payload."""

from collections.abc import Sequence
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from edgepass.errors import DeviceOnlyError
from edgepass.judging.manifest import Evidence
from edgepass.runtimes import Array, Session
from edgepass.runtimes.executorch import _coreml
from edgepass.runtimes.executorch._file import File, dtype
from edgepass.runtimes.executorch._vulkan import payload as _vulkan


class Executor(Protocol):
    """What carries out the payload of one delegate."""

    def prepare(self) -> None:
        """Import what it needs."""
        ...

    def load(self, payload: bytes, named_data: dict[str, bytes], threads: int) -> Session: ...


EXECUTORS = {"CoreMLBackend": cast(Executor, _coreml), "VulkanBackend": cast(Executor, _vulkan)}


def prepare(path: Path) -> None:
    """Import what the file may need: the executors of the delegates that its bytes name."""
    if not path.stat().st_size:  # nothing can be mapped
        return
    with path.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as data:
        named = [executor for name, executor in EXECUTORS.items() if data.find(name.encode()) >= 0]
    for executor in named:
        executor.prepare()


def load(file: File, threads: int) -> Session:
    """Raises DeviceOnlyError where the method is more than one delegate, or one that has no reference executor."""
    names = sorted(set(file.delegates))
    whole = len(file.calls) == 1 and file.calls[0]["instr_args_type"] == "DelegateCall"
    if not whole or names[0] not in EXECUTORS:
        among = "" if whole else " between other operations"
        raise DeviceOnlyError(
            f"{file.path} runs{among} on {' and '.join(names)}, which this host lacks; run it on a device that has it"
        )
    payload = file.payload(file.plan["delegates"][0])
    inner = EXECUTORS[names[0]].load(payload, file.named, threads)
    return _Session(file, file.calls[0]["instr_args"]["args"], inner)


class _Session:
    def __init__(self, file: File, args: Sequence[int], inner: Session) -> None:
        self.inner = inner
        self.evidence: Evidence = inner.evidence
        self.inputs: list[int] = file.plan["inputs"]
        self.outputs: list[int] = file.plan["outputs"]
        self.taken = [value for value in args if value in self.inputs]
        self.given = [value for value in args if value not in self.inputs]
        self.dtypes = {value: _numpy(file.plan["values"][value]) for value in self.given}

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        if len(inputs) != len(self.inputs):
            raise ValueError(f"it takes {len(self.inputs)} inputs, {len(inputs)} were given")
        values = dict(zip(self.inputs, inputs, strict=True))
        outputs = self.inner([values[value] for value in self.taken])
        values |= {v: y.astype(self.dtypes[v], copy=False) for v, y in zip(self.given, outputs, strict=True)}
        return [values[value] for value in self.outputs]


def _numpy(value: Any) -> np.dtype[Any]:
    """What an output is given as: half-precision ones as float32, as from every runtime."""
    name = dtype(value["val"])
    return np.dtype("float32" if name in ("float16", "bfloat16") else name)
