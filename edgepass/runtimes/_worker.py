"""The child process: loads one runtime and one file under limits, and leaves its answer in a folder.

Run as `python -m edgepass.runtimes._worker FOLDER`. The folder holds request.json and, for `run`, inputs.safetensors;
the worker adds reply.json, outputs.safetensors, and weights.safetensors where the weights are asked for. Standard
output means nothing: native libraries print there.
"""

import gc
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Thread
from typing import Literal

import msgspec
import numpy as np
from safetensors.numpy import load_file, save_file

from edgepass import runtimes
from edgepass.errors import (
    DamagedError,
    DeviceOnlyError,
    EdgepassError,
    MissingExtraError,
    RefusedError,
    first_line,
    one_line,
)
from edgepass.judging.manifest import Latency
from edgepass.runtimes import Array, Contents, Cut, Runtime, Session, _memory
from edgepass.runtimes._cut import Step, follow

REQUEST, REPLY = "request.json", "reply.json"
INPUTS, OUTPUTS, WEIGHTS = "inputs.safetensors", "outputs.safetensors", "weights.safetensors"
STATE = "state.safetensors"
ARGUMENTS, TENSORS, PARTS = "arguments.safetensors", "tensors.safetensors", "parts.safetensors"
BATCH, ANSWER = "batch_{}.safetensors", "answer_{}.safetensors"
LINE = 300
"""Characters of a runtime's own message that a sentence carries."""
LATENCY_SECONDS = 5.0
"""Timing, warm-up included, stops here however few runs that gave; one run is always timed."""


Ready = Callable[[int, Session], Session]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the parent asks."""

    task: Literal["run", "inspect"]
    runtime: str
    path: str
    seconds: float
    memory_bytes: int
    threads: int = 1
    warmup: int = 0
    latency_runs: int = 0
    contents: bool = False
    """Of a run: whether what the file holds is asked for too, the values of its weights with it."""
    scales: tuple[float, ...] = ()
    """Of a run: those of a graph's int8 tensors, whose integers lie in `TENSORS` for calls with `ARGUMENTS`."""
    sequence: int | None = None
    """Of a run: calls after which state begins anew as it lies in `STATE`."""
    keeps: bool = False
    """Of a run: whether the file keeps state itself, and is loaded anew to begin so."""
    batches: int = 0
    """Of a run: how many more stacks of samples, each of a batch of its own, lie in `BATCH`."""
    method: str = ""
    """Which method of the file, where it has several."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the child answers; `outcome` says which of the fields count."""

    outcome: Literal["done", "missing", "refused", "damaged", "elsewhere", "memory", "failed"]
    message: str = ""
    extra: str = ""
    peak_bytes: int = 0
    latency: Latency | None = None
    contents: Contents | None = None
    steps: list[Step] | None = None
    """None where the runtime shows nothing between its operations; `message` then says why."""
    batches: list[str] = field(default_factory=list)
    """Why each of the batches does not run, or nothing; fewer than were asked for where one ended the child."""


def name(index: int) -> str:
    """Key of the index-th array of a safetensors file; such a file keeps no order."""
    return f"{index:06d}"


def main(folder: Path) -> None:
    """Answer the request in `folder`."""
    Thread(target=_end_with_parent, args=(folder,), daemon=True).start()
    request = msgspec.json.decode((folder / REQUEST).read_bytes(), type=Request)
    _limit(request)
    _tell(_reply(request, folder), folder)


def _tell(reply: Reply, folder: Path) -> None:
    partial = folder / f"{REPLY}.part"
    partial.write_bytes(msgspec.json.encode(reply))
    partial.rename(folder / REPLY)


def _end_with_parent(folder: Path) -> None:
    """Wait for the end of standard input, which comes when the parent is gone, however it went; then leave nothing."""
    while os.read(0, 1):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)  # with whatever the runtime has started: the worker leads its own group


def _limit(request: Request) -> None:
    cpu = (
        int(request.seconds * max(1, request.threads)) + 60
    )  # the parent's clock comes first; this outlives the parent
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_DATA, request.memory_bytes),
        (resource.RLIMIT_FSIZE, request.memory_bytes),
    ):
        hard = resource.getrlimit(kind)[1]
        limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with suppress(ValueError, OSError):  # a system that lacks one of them still has the parent's clock
            resource.setrlimit(kind, (limit, limit))


def _reply(request: Request, folder: Path) -> Reply:
    extra = ""
    try:
        runtime = runtimes.runtime(request.runtime)
        extra = runtime.extra
        if request.task == "inspect":
            if runtime.prepare_reading is not None:
                runtime.prepare_reading()
            return Reply(outcome="done", contents=_contents(runtime, request, folder))
        return _run(runtime, request, folder)
    except ModuleNotFoundError as error:
        return Reply(outcome="missing", message=error.name or str(error), extra=extra)
    except MissingExtraError as error:
        return Reply(outcome="missing", message=error.what, extra=extra)
    except DeviceOnlyError as error:
        return Reply(outcome="elsewhere", message=str(error))
    except DamagedError as error:
        return Reply(outcome="damaged", message=error.fact)
    except EdgepassError as error:
        return Reply(outcome="refused", message=str(error))
    except MemoryError:
        return Reply(outcome="memory")
    except Exception as error:  # whatever a native library raises for a file that it does not like
        return Reply(outcome="failed", message=f"{type(error).__name__}: {error}")


def _run(runtime: Runtime, request: Request, folder: Path) -> Reply:
    inputs, state = _arrays(folder / INPUTS), _arrays(folder / STATE)
    samples = [[x[i, ...] for x in inputs] for i in range(len(inputs[0]))]
    runtime.prepare(Path(request.path))
    before = _memory.settle()
    session = runtime.load(Path(request.path), request.threads, request.method)
    first = session([*samples[0], *state])
    peak = max(0, _memory.peak() - before)
    length = request.sequence or len(samples)

    def ready(number: int, session: Session) -> Session:
        """The session for the call of that number: of a file that keeps state a new one, where a sequence begins."""
        anew = request.keeps and number % length == 0
        return runtime.load(Path(request.path), request.threads, request.method) if anew else session

    microseconds = _time(session, [*samples[0], *state], request.warmup, request.latency_runs, ready)
    latency = Latency(
        p50_us=float(np.median(microseconds)),
        p95_us=float(np.percentile(microseconds, 95)),
        threads=request.threads,
        runs=len(microseconds),
        evidence=session.evidence,
    )
    outputs = _stack(_sequences(session, samples, state, length, ready), first)
    save_file({name(i): y for i, y in enumerate(outputs)}, folder / OUTPUTS)
    contents = _contents(runtime, request, folder) if request.contents else None
    steps, why = _steps(runtime, request, folder) if request.scales else (None, "")
    reply = Reply(outcome="done", message=why, peak_bytes=peak, latency=latency, contents=contents, steps=steps)
    for number in range(request.batches):
        _tell(reply, folder)  # so that a batch which ends this process takes no more than itself
        reply = replace(reply, batches=[*reply.batches, _batch(session, folder, number)])
    return reply


def _sequences(
    session: Session, samples: Sequence[Sequence[Array]], initial: Sequence[Array], length: int, ready: Ready
) -> list[list[Array]]:
    """What each call gives; its last inputs are `initial` where a sequence begins, else the last outputs before."""
    calls: list[list[Array]] = []
    state = initial
    for number, sample in enumerate(samples):
        session = ready(number, session)
        state = state if number % length else initial
        calls.append(session([*sample, *state]))
        state = calls[-1][len(calls[-1]) - len(state) :]
    return calls


def _arrays(file: Path) -> list[Array]:
    """The arrays of a safetensors file in their order; none where there is no such file."""
    stored = load_file(file) if file.exists() else {}
    return [stored[key] for key in sorted(stored)]


def _batch(session: Session, folder: Path, number: int) -> str:
    """Run every sample of another batch; why that cannot be, or nothing."""
    try:
        inputs = _arrays(folder / BATCH.format(number))
        runs = [session([x[i] for x in inputs]) for i in range(len(inputs[0]))]
        save_file({name(i): y for i, y in enumerate(_stack(runs, runs[0]))}, folder / ANSWER.format(number))
    except MemoryError:
        return "there is not memory enough"
    except Exception as error:  # as for the file as a whole
        return one_line(str(error), LINE)
    return ""


def _steps(runtime: Runtime, request: Request, folder: Path) -> tuple[list[Step] | None, str]:
    """How far each part of the file is from the graph's, or why that is not known.

    What the outputs then are goes into a file of its own. A file that runs whole and not in parts is no worse for it.
    """
    if runtime.cut is None:
        return None, "this runtime shows nothing between the operations of a file"
    try:
        return _followed(runtime.cut, request, folder), ""
    except RefusedError as error:
        return None, str(error)
    except Exception as error:
        return None, f"the file does not run in parts: {first_line(error)}"


def _followed(cuts: Callable[[Path, int, str], Cut], request: Request, folder: Path) -> list[Step]:
    cut = cuts(Path(request.path), request.threads, request.method)
    tensors = [tensor.astype(np.int32, copy=False) for tensor in _arrays(folder / TENSORS)]
    steps, outputs = follow(cut, request.scales, tensors, _arrays(folder / ARGUMENTS))
    save_file({name(i): np.ascontiguousarray(y) for i, y in enumerate(outputs)}, folder / PARTS)
    return steps


def _contents(runtime: Runtime, request: Request, folder: Path) -> Contents:
    """What the file holds; the values of its weights go into a file of their own."""
    contents = runtime.inspect(Path(request.path), request.method)
    if request.contents:
        known = {name(i): np.ascontiguousarray(v) for i, v in enumerate(contents.values) if v is not None}
        save_file(known, folder / WEIGHTS)
    return replace(contents, values=[])


def _time(
    session: Session,
    sample: Sequence[Array],
    warmup: int,
    runs: int,
    ready: Ready = lambda number, session: session,
) -> list[float]:
    """Microseconds of each timed run, the collector switched off."""
    gc.collect()
    gc.disable()
    start = time.perf_counter_ns()
    for number in range(warmup):
        session = ready(number, session)
        session(sample)
        if time.perf_counter_ns() - start > LATENCY_SECONDS / 2 * 1e9:
            break
    microseconds: list[float] = []
    while len(microseconds) < max(1, runs):
        session = ready(len(microseconds), session)
        t0 = time.perf_counter_ns()
        session(sample)
        t1 = time.perf_counter_ns()
        microseconds.append((t1 - t0) / 1e3)
        if t1 - start > LATENCY_SECONDS * 1e9:
            break
    gc.enable()
    return microseconds


def _stack(runs: list[list[Array]], first: list[Array]) -> list[Array]:
    """Outputs as [samples, *output shape]; ValueError when a sample's differ in number, shape or dtype."""
    form = [(y.shape, y.dtype) for y in first]
    for i, outputs in enumerate(runs):
        if [(y.shape, y.dtype) for y in outputs] != form:
            got, want = ([f"{y.dtype}{list(y.shape)}" for y in ys] for ys in (outputs, first))
            raise ValueError(f"sample {i} gives {', '.join(got)} where sample 0 gives {', '.join(want)}")
    # A stack of transposed views is itself not in C order, and safetensors writes an array's buffer as it lies.
    return [np.ascontiguousarray(np.stack([outputs[j] for outputs in runs])) for j in range(len(first))]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
