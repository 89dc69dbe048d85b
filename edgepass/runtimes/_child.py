"""Runs a file in a process of its own, so that a file can crash its runtime and never edgepass.

Runtimes are native code fed with bytes that may come from anywhere. Each call starts a fresh interpreter with limits,
hands arrays over as safetensors, and turns whatever happens (a signal, no memory, no answer) into one ArtifactError.

Limits of the limits: the wall clock is the parent's and kills the whole process group; memory is RLIMIT_DATA, which
counts private writable pages, so a mapped file is not counted, and which macOS accepts but does not enforce. The worker
drops core dumps and caps its CPU time, but it is not a sandbox: it runs with the user's rights.
"""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
from safetensors.numpy import load_file, save

from edgepass import catalog
from edgepass.errors import (
    NO_MEMORY,
    ArtifactError,
    DamagedError,
    DeviceOnlyError,
    EdgepassError,
    InputError,
    MissingExtraError,
    UnknownNameError,
    one_line,
)
from edgepass.judging.manifest import Latency
from edgepass.runtimes import Array, Contents, _worker
from edgepass.runtimes._cut import Step
from edgepass.runtimes._worker import Reply, Request

GIB = 1 << 30
ROOM = 1 << 16
"""Bytes that a folder for an answer has to have free; on a full disk there are none."""
_FULL = re.compile(r"no space left|disk quota exceeded|file too large", re.IGNORECASE)
_NOISE = re.compile(r"warning|midr|\bI\d{4}|^\s*(File|at|#\d)|\bINFO\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a child may use: wall-clock seconds, and bytes of private memory (its interpreter and runtime included)."""

    seconds: float = 600.0
    memory_bytes: int = 8 * GIB


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What running a file gave.

    `outputs`: one array [samples, *output shape] per output.
    `peak_bytes`: resident memory that loading the file and the first inference added to the fresh process at their
    worst moment, the runtime already imported: on Linux VmHWM after minus VmRSS before, elsewhere the growth of
    ru_maxrss. It counts the pages of the file and the pages of library code touched for the first time (some 4 MB for
    the smallest file of any runtime), and misses what fits into heap that was already free, so compare files of one
    runtime.
    `latency`: of the first sample; handing the arrays over, and converting them to the file's dtypes, is part of it.
    `contents`: what the file holds, where it was asked for, with the values of its weights.
    `steps`: how far each part of the file between int8 tensors is off when it is given the graph's own integers, and
    `parts` the outputs then; where the graph's were given, None where it cannot be had, and `steps_note` says why.
    `batches`: the outputs at each further batch, or why there are none.
    """

    outputs: list[Array]
    peak_bytes: int
    latency: Latency
    contents: Contents | None = None
    steps: list[Step] | None = None
    steps_note: str = ""
    parts: list[Array] = field(default_factory=list)
    batches: list[list[Array] | str] = field(default_factory=list)


def run(
    runtime: str,
    path: Path,
    inputs: Sequence[Array],
    *,
    method: str = "",
    state: Sequence[Array] = (),
    sequence: int | None = None,
    keeps: bool = False,
    threads: int = 1,
    warmup: int = 10,
    latency_runs: int = 100,
    contents: bool = False,
    scales: Sequence[float] = (),
    tensors: Sequence[Array] = (),
    arguments: Sequence[Array] = (),
    batches: Sequence[Sequence[Array]] = (),
    limits: Limits = Limits(),
) -> Measurement:
    """Run the file over all samples; `inputs` are [samples, *input shape], one per input, in the model's order.

    `method`: which of its methods, where it has several; the first, or what its format runs unasked, without one.
    `state`: what its last inputs begin with, where it keeps state; the samples are then a sequence, in which each call
    is given the last outputs of the one before, and state begins anew after `sequence` calls. Where the file `keeps`
    state itself, it is loaded anew to begin a sequence.
    `tensors`: the integers of a graph of the same model at its int8 tensors, less their zero points, [n, ...] for n
    calls with `arguments`; `scales` are theirs.
    `batches`: inputs like `inputs`, of another batch each; one that fails there costs no more than itself.
    Order: load, first inference (memory is read here), timing (at most 5 s), every sample, `contents`, every batch.
    Raises ArtifactError when the file or its runtime fails, or when a sample gives outputs of another shape than the
    first; DeviceOnlyError when nothing here can run it; InputError when the inputs hold no sample or not equally many;
    MissingExtraError; UnknownNameError.
    """
    counts = {len(x) if x.ndim else 0 for x in inputs}
    if len(counts) != 1 or 0 in counts:
        raise InputError(f"inputs must hold the same number of samples, at least one; these hold {sorted(counts)}")
    with TemporaryDirectory(prefix="edgepass-") as name:
        folder = Path(name)
        stacks = {
            _worker.INPUTS: inputs,
            _worker.STATE: state,
            _worker.ARGUMENTS: arguments,
            _worker.TENSORS: tensors,
            **{_worker.BATCH.format(n): given for n, given in enumerate(batches)},
        }
        try:
            for file, given in stacks.items():
                arrays = {_worker.name(i): np.ascontiguousarray(x) for i, x in enumerate(given)}
                if arrays:
                    (folder / file).write_bytes(save(arrays))
        except OSError as error:
            raise InputError(
                f"the samples cannot be handed to a child through {folder.parent}: {error.strerror}; "
                "make room there, name another with TMPDIR, or give fewer samples"
            ) from None
        request = Request(
            task="run",
            runtime=runtime,
            path=str(path.resolve()),
            seconds=limits.seconds,
            memory_bytes=limits.memory_bytes,
            threads=threads,
            warmup=warmup,
            latency_runs=latency_runs,
            contents=contents,
            sequence=sequence,
            keeps=keeps,
            scales=tuple(scales),
            batches=len(batches),
            method=method,
        )
        reply = _ask(request, path, folder)
        outputs = load_file(folder / _worker.OUTPUTS)
        held = _with_values(reply.contents, folder) if contents else None
        parts = load_file(folder / _worker.PARTS) if reply.steps is not None else {}
        answers = [_answer(reply, number, folder) for number in range(len(batches))]
    if reply.latency is None:
        raise EdgepassError(f"the {runtime} child answered without a latency; please report this")
    return Measurement(
        outputs=[outputs[key] for key in sorted(outputs)],
        peak_bytes=reply.peak_bytes,
        latency=reply.latency,
        contents=held,
        steps=reply.steps,
        steps_note=reply.message,
        parts=[parts[key] for key in sorted(parts)],
        batches=answers,
    )


def _answer(reply: Reply, number: int, folder: Path) -> list[Array] | str:
    """The outputs at one of the further batches, or why there are none."""
    if number >= len(reply.batches):
        tail = _tail(folder)
        return f"its runtime ended, or was stopped, without an answer{tail and f' ({tail})'}"
    if reply.batches[number]:
        return reply.batches[number]
    stored = load_file(folder / _worker.ANSWER.format(number))
    return [stored[key] for key in sorted(stored)]


def inspect(runtime: str, path: Path, limits: Limits = Limits(), *, method: str = "", values: bool = False) -> Contents:
    """What the file holds for one of its methods, with `values` those of its weights too.

    Raises ArtifactError, MissingExtraError, UnknownNameError.
    """
    request = Request(
        task="inspect",
        runtime=runtime,
        path=str(path.resolve()),
        seconds=limits.seconds,
        memory_bytes=limits.memory_bytes,
        contents=values,
        method=method,
    )
    with TemporaryDirectory(prefix="edgepass-") as name:
        contents = _ask(request, path, Path(name)).contents
        if values:
            contents = _with_values(contents, Path(name))
    if contents is None:
        raise EdgepassError(f"the {runtime} child answered without contents; please report this")
    return contents


def _with_values(contents: Contents | None, folder: Path) -> Contents | None:
    """`contents` with the values of its weights, which lie beside the reply."""
    if contents is None:
        return None
    stored = load_file(folder / _worker.WEIGHTS)
    return replace(contents, values=[stored.get(_worker.name(i)) for i in range(len(contents.weights))])


def _ask(request: Request, path: Path, folder: Path) -> Reply:
    if request.runtime not in catalog.names("runtimes"):
        raise UnknownNameError("runtime", request.runtime, catalog.names("runtimes"))
    if not path.exists():
        raise ArtifactError(f"{path} does not exist; name a file that an export wrote")
    full = f"{folder.parent}, where a child leaves its answer, is full; make room there, or name another with TMPDIR"
    try:
        (folder / _worker.REQUEST).write_bytes(msgspec.json.encode(request))
    except OSError:
        raise InputError(full) from None
    code = _spawn(folder, request)
    if code != 0 and shutil.disk_usage(folder).free < ROOM:
        raise InputError(full)
    reply_file = folder / _worker.REPLY
    if reply_file.exists():
        # A crash while the interpreter shuts down comes after the answer and takes nothing from it.
        reply = msgspec.json.decode(reply_file.read_bytes(), type=Reply)
    elif code is None:
        reason = f"gave no answer in {request.seconds:g} s; make the model smaller, or the samples fewer"
        raise ArtifactError(f"{path}: the {request.runtime} runtime {reason}")
    else:
        raise _death(code, request, path, _tail(folder))
    if any(_FULL.search(said) for said in (reply.message, *reply.batches)):
        raise InputError(full)
    match reply.outcome:
        case "done":
            return reply
        case "missing":
            raise MissingExtraError(reply.message, reply.extra or request.runtime)
        case "refused":
            raise ArtifactError(reply.message)
        case "damaged":
            raise DamagedError(reply.message)
        case "elsewhere":
            raise DeviceOnlyError(reply.message)
        case "memory":
            raise ArtifactError(f"{path}: the {request.runtime} runtime {_too_big(request)}")
        case "failed" if NO_MEMORY.search(reply.message):
            raise ArtifactError(f"{path}: the {request.runtime} runtime {_too_big(request)}")
        case "failed":
            cannot = "cannot run it" if request.task == "run" else "cannot read it"
            raise DamagedError(
                f"{path}: the {request.runtime} runtime {cannot} ({one_line(reply.message, _worker.LINE)})"
            )


def _spawn(folder: Path, request: Request) -> int | None:
    """Exit code of the worker, negative for a signal; None when it had to be stopped for time."""
    threads = str(request.threads)
    quiet = {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONWARNINGS": "ignore",
    }
    # -P: a file of the user's working folder must not pass for a module; the worker runs inside its own folder.
    command = [sys.executable, "-P", "-m", _worker.__name__, str(folder)]
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # never written to: its end tells the worker that this process is gone
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, **quiet},
            start_new_session=True,
        )
        try:
            return process.wait(timeout=request.seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:  # also on KeyboardInterrupt; and a runtime may have left processes of its own
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdin:
                process.stdin.close()


def _death(code: int, request: Request, path: Path, tail: str) -> ArtifactError:
    """What a worker that ended without an answer says of its file."""
    who = f"{path}: the {request.runtime} runtime"
    last = f" ({tail})" if tail else ""
    if NO_MEMORY.search(tail):
        return ArtifactError(f"{who} {_too_big(request)}")
    if code >= 0:
        return DamagedError(f"{who} ended with exit code {code} and no answer{last}")
    if -code == signal.SIGKILL:
        return ArtifactError(
            f"{who} was killed, most likely by the system for want of memory; free some, or make the model smaller"
        )
    if -code == signal.SIGXCPU:
        return ArtifactError(
            f"{who} used more processor time than {request.seconds:g} s allow; "
            "make the model smaller, or the samples fewer"
        )
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return DamagedError(f"{who} crashed with {name}{last}")


def _too_big(request: Request) -> str:
    space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if space != resource.RLIM_INFINITY and space < request.memory_bytes:
        return f"needed more than the {space / GIB:.3g} GiB that this shell allows; allow more (ulimit -v)"
    return f"needed more than {request.memory_bytes / GIB:.3g} GiB; make the model smaller"


def _tail(folder: Path) -> str:
    """The last line worth reading of what the child printed."""
    log = folder / "log.txt"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 8192))
        lines = file.read().decode(errors="replace").splitlines()
    useful = [line for line in lines if line.strip() and not _NOISE.search(line)]
    return one_line(useful[-1], _worker.LINE) if useful else ""
