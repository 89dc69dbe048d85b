"""Data that a user names: arrays in a file, a function of a file of Python, a CSV for a forecaster to window."""

from collections.abc import Callable, Iterable, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from torch.export import ExportedProgram

from edgepass import methods
from edgepass.arrays import named_arrays
from edgepass.errors import InputError
from edgepass.runtimes import Array
from edgepass.samples import Samples, check_arrays, check_targets, collect, natural
from edgepass.series import run
from edgepass.series.table import read_csv
from edgepass.series.windows import windows
from edgepass.source import users_file
from edgepass.task import Task


def read(where: str, found: Task, model: str, say: Callable[[str], None]) -> dict[str, Samples]:
    """Samples of each method of a task, by its name, from what the user names; "" of a model of one.

    A function gives those of several by their names, and a file of arrays names each as `encode.input_0`.
    Raises InputError with one sentence.
    """
    tasks = {task.method: task for task in found.each}
    path = Path(where)
    file, _, function = where.rpartition(":")
    if file.endswith(".py"):
        given = users_file.samples(users_file.load_file(Path(file)), function, where, several=bool(found.method))
        by_name = methods.by_name(given, list(tasks), where) if found.method else {"": given}
        return {
            name: collect(of, tasks[name].args, f"{where} {name}".rstrip(), say, tasks[name].call)
            for name, of in by_name.items()
        }
    if not path.is_file():
        raise InputError(f"no file {where}; data may be .npz, .safetensors, .csv or file.py:function")
    if where.endswith((".csv", ".csv.gz")):
        if found.method:
            raise InputError(f"{where} can be no data of methods; give .npz, .safetensors or file.py:function")
        return {"": _csv(path, found, model)}
    arrays = named_arrays(path)
    if not found.method:
        return {"": _samples(arrays, found, where)}
    parted: dict[str, dict[str, Array]] = {}
    for key, array in arrays.items():
        name, _, own = key.partition(".")
        if name not in tasks:
            raise InputError(
                f"{where} holds {key}, which is of no method; name arrays as {next(iter(tasks))}.input_0, and the "
                f"methods are {', '.join(tasks)}"
            )
        parted.setdefault(name, {})[own] = array
    return {name: _samples(own, tasks[name], where) for name, own in parted.items()}


def _samples(arrays: dict[str, Array], found: Task, where: str) -> Samples:
    targets = arrays.pop("target", None)
    inputs = check_arrays([arrays[key] for key in _in_order(arrays, found)], found.args, where)
    return Samples(inputs=inputs, targets=None if targets is None else check_targets(targets, len(inputs[0]), where))


def _in_order(keys: Iterable[str], found: Task) -> list[str]:
    """As the model takes what they name: by the names of its arguments, where they are these, else by their numbers."""
    model = found.model
    known = (
        model.graph_signature.user_inputs if isinstance(model, ExportedProgram) else signature(model.forward).parameters
    )
    named = [str(name) for name in known][: len(found.args)]
    return named if set(named) == set(keys) else sorted(keys, key=natural)


def _csv(path: Path, found: Task, model: str) -> Samples:
    """All windows of a CSV, as the forecaster's own lookback and horizon cut them."""
    if not found.columns or not hasattr(found.model, "lookback"):
        raise InputError(
            f"{path} is a CSV, which only a forecaster can window; {model} is none, so give .npz or .safetensors"
        )
    forecaster: Any = found.model
    untrained = found.evaluation is not None and found.evaluation.synthetic
    columns: Sequence[str] | None = None if untrained else found.columns
    series = read_csv(path, None, columns)
    if len(series.columns) != forecaster.channels:
        raise InputError(f"{path} has {len(series.columns)} columns, but {model} forecasts {forecaster.channels}")
    lookback, horizon = forecaster.lookback, forecaster.horizon
    if len(series) < lookback + horizon:
        raise InputError(f"{path} has {len(series)} rows; one window of {model} needs {lookback + horizon}")
    inputs, targets = windows(series.values_TC.astype(np.float32), (0, len(series)), lookback=lookback, horizon=horizon)
    starts = None if series.times_T is None else series.times_T[lookback : len(series) - horizon + 1]
    return Samples(
        inputs=[np.ascontiguousarray(inputs[:, None])],
        targets=np.ascontiguousarray(targets[:, None]),
        starts=starts,
        overlap=horizon,
        trained_on=any(
            i.sha256 == run.rows_sha256(series.values_TC[: i.rows]) for i in found.data if i.role == "train"
        ),
    )
