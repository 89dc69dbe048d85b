"""Samples: data that calibrate and judge a model, and how they are made of what a user gives."""

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgepass import structure
from edgepass.calling import Call
from edgepass.errors import InputError
from edgepass.judging.manifest import DataInfo
from edgepass.runtimes import Array
from edgepass.runtimes import _memory as memory

SYNTHETIC_SAMPLES = 32
MOST_SAMPLES, MOST_BYTES = 50_000, 4 << 30
"""Of what may have no end: a generator, or what gives more than its length says; a list may be longer."""
EVERY_S = 5.0
"""Between two words on how far reading has come."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Arguments of many calls: one array [n, *argument shape] per argument, and what they should give, if known."""

    inputs: list[Array]
    targets: Array | None = None
    synthetic: bool = False
    starts: NDArray[np.datetime64] | None = None
    """When the forecast of each begins, where the samples are windows of a series with times."""
    trained_on: bool = False
    """Whether the model is known to have been trained on them."""
    overlap: int = 1
    """Neighbours that have something in common, as windows of one series have; 1 where each stands alone."""
    state: list[Array] = field(default_factory=list)
    """What the state of the model begins with, where it keeps any; the samples are then one sequence of calls."""
    length: int | None = None
    """Calls after which it begins anew; None where it never does."""
    whole: "Samples | None" = None
    """What these were chosen from."""

    def __len__(self) -> int:
        return len(self.inputs[0])

    def arguments(self) -> list[tuple[Tensor, ...]]:
        """The same as argument tuples, without state."""
        return [tuple(torch.from_numpy(x[i, ...]) for x in self.inputs) for i in range(len(self))]

    def run(self, model: Callable[..., Any]) -> Iterator[tuple[tuple[Tensor, ...], list[Array]]]:
        """Call `model` with each in order: its arguments, and the tensors that it gives.

        One with state takes it as its last arguments, each call those that the last outputs of the one before became.
        """
        state = self.state
        for number, own in enumerate(self.arguments()):
            if self.length and number % self.length == 0:
                state = self.state
            arguments = (*own, *map(torch.from_numpy, state))
            outputs = flatten(model(*arguments))
            yield arguments, outputs
            state = outputs[len(outputs) - len(state) :]

    def rows(self, most: int | None) -> NDArray[np.intp]:
        """Indices of at most that many: evenly spread from the first to the last, of a sequence the first ones."""
        return np.arange(min(len(self), most or len(self))) if self.state else spread(len(self), most)

    def sequence(self, state: Sequence[Array], length: int | None = None) -> "Samples":
        """The same number of calls in a row, of a model that keeps `state`, from the first there is.

        What each call gives hangs on those before, and how far back nobody knows: neighbours are taken to have
        something in common over n^(1/3) calls, as blocks of a bootstrap should be long (Künsch 1989, theorem 3.3).
        """
        whole = self.whole or self
        overlap = max(whole.overlap, round(len(self) ** (1 / 3)))
        chosen = replace(whole, state=list(state), length=length, overlap=overlap)
        return replace(chosen.spread(len(self)), whole=None)

    def spread(self, most: int | None) -> "Samples":
        """At most that many of them, evenly spread from the first to the last; of a sequence the first ones."""
        if most is None or len(self) <= most:
            return self
        rows = self.rows(most)
        targets = None if self.targets is None else self.targets[rows]
        starts = None if self.starts is None else self.starts[rows]
        overlap = self.overlap if self.state else max(1, -(-self.overlap * most // len(self)))
        chosen = replace(self, inputs=[x[rows] for x in self.inputs], targets=targets, starts=starts, overlap=overlap)
        return replace(chosen, whole=self.whole or self)

    def info(self, role: str) -> DataInfo:
        """Hash and count, for the manifest."""
        digest = hashlib.sha256()
        for array in [*self.inputs, *([] if self.targets is None else [self.targets])]:
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return DataInfo(role=role, sha256=digest.hexdigest(), rows=len(self), synthetic=self.synthetic)


def flatten(outputs: Any) -> list[Array]:
    """The tensors among a model's outputs, in order, as arrays."""
    tensors = [leaf for _, leaf in structure.leaves(outputs) if isinstance(leaf, Tensor)]
    if not tensors:
        raise ValueError("the model gives no tensor")
    # NumPy has no bfloat16, and float32 holds each of its values.
    return [(t.float() if t.dtype == torch.bfloat16 else t).numpy(force=True) for t in tensors]


def check_args(args: Any, source: str, call: Call | None = None) -> tuple[Tensor, ...]:
    """The tensors of `args`, in order, which are given as those of `call` are. Raises InputError for anything else."""
    return check_tensors(call.row(args, source) if call else Call.of(args, source).tensors, source)


def check_tensors(tensors: tuple[Tensor, ...], source: str) -> tuple[Tensor, ...]:
    """`tensors`; raises InputError where a file can take no such thing."""
    for tensor in tensors:
        if tensor.device.type != "cpu" or tensor.layout != torch.strided:
            kind = tensor.device.type if tensor.device.type != "cpu" else "a sparse layout"
            raise InputError(f"{source} gives a tensor in {kind}; give dense ones on the CPU, as torch.zeros(...) is")
        if tensor.dtype in (torch.bfloat16, torch.complex32, torch.complex64, torch.complex128):
            raise InputError(
                f"{source} gives {str(tensor.dtype).removeprefix('torch.')}, which no target takes as an input; "
                "let the model take float32 and cast inside"
            )
    return tensors


def collect(
    samples: Iterable[Any],
    args: tuple[Tensor, ...],
    source: str,
    say: Callable[[str], None] = lambda line: None,
    call: Call | None = None,
) -> Samples:
    """Arguments as those of `call`, or pairs (arguments, target), as Samples. Shapes and dtypes must be as in `args`.

    Of a model with one argument a pair of tensors is it and its target, as data loaders give them.
    """
    call = call or Call(args, {})
    rows: list[tuple[Tensor, ...]] = []
    targets: list[Array] = []
    if not isinstance(samples, Iterable):
        raise InputError(
            f"{source} gives {type(samples).__name__}; it must give argument tuples, or pairs (arguments, target)"
        )
    whole = len(samples) if isinstance(samples, (list, tuple)) else 0  # what is there in memory has an end
    stated = whole or _stated(samples)
    size, told, room = 0, time.monotonic(), memory.available()
    for sample in samples:
        arguments, target = _split(sample, call)
        rows.append(check_args(arguments, source, call))
        size += sum(argument.nbytes for argument in rows[-1])
        if target is not None:
            targets.append(_target(target, source))
            size += targets[-1].nbytes
        if len(rows) > stated and (len(rows) > MOST_SAMPLES or size > MOST_BYTES):
            says = f" says that it has {stated:,} samples," if stated else ""
            raise InputError(
                f"{source}{says} has given {len(rows) - 1:,} samples of {size / 2**30:.3g} GiB and goes on; let it "
                "end, with itertools.islice for one, or give a list"
            )
        if not whole and size > room // 2:  # they are copied once, into one array
            raise InputError(
                f"{source} has given {len(rows):,} samples of {size / 2**30:.3g} GiB and goes on, and "
                f"{room / 2**30:.3g} GiB of memory are free here; give fewer samples"
            )
        if time.monotonic() - told > EVERY_S:
            told = time.monotonic()
            say(f"reading {source}: {len(rows):,} samples so far")
    if not rows:
        raise InputError(f"{source} gives no sample")
    if targets and len(targets) != len(rows):
        raise InputError(
            f"{source} gives {len(rows)} samples but only {len(targets)} targets; give one to each or to none"
        )
    if len({target.shape for target in targets}) > 1:
        raise InputError(f"{source} gives targets of different shapes; give all the same")
    for index, row in enumerate(rows):
        _check_row(index, [(str(a.dtype).removeprefix("torch."), tuple(a.shape)) for a in row], args, source)
    inputs = [np.stack([row[i].detach().cpu().numpy() for row in rows]) for i in range(len(args))]
    return Samples(inputs=inputs, targets=np.stack(targets) if targets else None)


def check_arrays(inputs: Sequence[Array], args: tuple[Tensor, ...], source: str) -> list[Array]:
    """Stacked arrays [n, *argument shape] from a file, checked against `args`; a batch of one may be left out."""
    shaped = []
    for number, (array, arg) in enumerate(zip(inputs, args, strict=False)):
        if not array.ndim:
            raise InputError(
                f"{source}: input {number} is a single number; stack samples on a first dimension, [samples, ...]"
            )
        wanted = tuple(arg.shape)
        lifted = array[:, None] if wanted[:1] == (1,) and array.shape[1:] == wanted[1:] else array
        shaped.append(np.ascontiguousarray(lifted))
    _check_row(0, [(str(a.dtype), a.shape[1:]) for a in shaped], args, source)
    if len(inputs) != len(args) or len({len(a) for a in shaped}) != 1 or not len(shaped[0]):
        raise InputError(f"{source} must hold {len(args)} arrays of equally many samples, at least one")
    return shaped


def check_targets(targets: Array, samples: int, source: str) -> Array:
    """Targets from a file, one to each sample; raises InputError for anything else."""
    if not _is_numbers(targets):
        raise InputError(
            f"{source} holds a target of {targets.dtype}, which are no numbers that a file holds; give numbers, for "
            "instance the sample's index, by which a metric of your own finds the rest"
        )
    if not targets.ndim:
        raise InputError(
            f"{source} has {samples} samples, but its target is a single number; give one to each: [{samples}, ...]"
        )
    if len(targets) != samples:
        raise InputError(f"{source} has {samples} samples but {len(targets)} targets; give one to each")
    return targets


def synthetic(args: tuple[Tensor, ...], seed: int, *, draw: bool = True) -> Samples:
    """Seeded noise in the shapes of `args`, and the example's own integers: as they are, then drawn from all of them.

    Truth values and integers of 0 and 1 say what counts, and stay; so does all that is no noise without `draw`.
    """
    generator, integers = np.random.default_rng(seed), np.random.default_rng((seed, 1))
    inputs: list[Array] = []
    for arg in args:
        shape = (SYNTHETIC_SAMPLES, *arg.shape)
        if arg.is_floating_point():
            inputs.append(generator.standard_normal(shape).astype(arg.numpy(force=True).dtype))
        else:
            inputs.append(np.broadcast_to(arg.numpy(), shape).copy())
            if draw and arg.numel() and not ((arg == 0) | (arg == 1)).all():
                inputs[-1][1:] = integers.choice(arg.numpy().ravel(), (SYNTHETIC_SAMPLES - 1, *arg.shape))
    return Samples(inputs=inputs, synthetic=True)


def _stated(samples: Iterable[Any]) -> int:
    """How many samples there are by their own account; 0 where they give none."""
    try:
        return len(samples)  # type: ignore[arg-type] # what has no length raises a TypeError, and a DataLoader may too
    except Exception:
        return 0


def spread(count: int, samples: int | None) -> NDArray[np.intp]:
    """`samples` indices spread evenly over range(count), all of them when None or when there are no more."""
    if samples is None or samples >= count:
        return np.arange(count)
    return np.linspace(0, count - 1, max(samples, 1)).round().astype(np.intp)


def natural(key: str) -> list[tuple[int, str]]:
    """Sorts input_2 before input_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", key)]


def _split(sample: Any, call: Call) -> tuple[Any, Any]:
    pair = isinstance(sample, (tuple, list)) and len(sample) == 2 and (call.is_plain or not call.fits(sample))
    if pair and (isinstance(sample[0], (tuple, list, Mapping)) or len(call.args) == 1):
        return sample[0], sample[1]
    return sample, None


def _target(target: Any, source: str) -> Array:
    try:
        plain = target.detach().cpu() if isinstance(target, Tensor) else target
        array = np.asarray(plain.float() if isinstance(plain, Tensor) and plain.dtype == torch.bfloat16 else plain)
    except (TypeError, ValueError, RuntimeError):  # tensors of several shapes, of no device …
        array = np.array(None)
    if not _is_numbers(array):
        raise InputError(
            f"{source} gives a target that is a {type(target).__name__}, not one array of numbers; give a tensor or a "
            "number, for instance the sample's index, by which a metric of your own finds the rest"
        )
    return array


def _is_numbers(array: Array) -> bool:
    """Whether it holds numbers of a kind that golden samples can hold too."""
    return array.dtype.kind in "biuf" and array.dtype.itemsize <= 8


def _check_row(index: int, given: list[tuple[str, tuple[int, ...]]], args: tuple[Tensor, ...], source: str) -> None:
    wanted = [(str(a.dtype).removeprefix("torch."), tuple(a.shape)) for a in args]
    if given != wanted:
        text = [", ".join(f"{dtype}{list(shape)}" for dtype, shape in row) for row in (given, wanted)]
        raise InputError(f"{source}: sample {index} is {text[0]}, but the model was called with {text[1]}; give that")
