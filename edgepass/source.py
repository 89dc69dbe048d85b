"""MODEL on the command line: a preset, a RUN/ folder, a `.pt2` file, or `file.py:get_model`, as a Task."""

import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import ExportedProgram

from edgepass import catalog, models, task
from edgepass.errors import InputError, UnknownNameError, first_line
from edgepass.judging import score as scores
from edgepass.judging.manifest import Metric
from edgepass.judging.score import Score
from edgepass.models.truncation import truncated
from edgepass.runtimes import Array, _child
from edgepass.runtimes.eager._archive import load_program
from edgepass.series import run
from edgepass.series.baselines import CHUNK
from edgepass.series.table import read_csv
from edgepass.series.windows import windows
from edgepass.task import Samples, Task

LOOKBACK, HORIZON = 336, 96
"""Sizes of a preset that is exported untrained, to see what it costs."""
CUT = re.compile(r"(.+)@(\d+)", re.DOTALL)
"""MODEL@N is MODEL cut after pass N."""
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin")


def load(
    model: str,
    *,
    calibration: str | None = None,
    evaluation: str | None = None,
    calibration_samples: int = 256,
    evaluation_samples: int | None = None,
    seed: int = 0,
    metric: str | None = None,
    higher_is_better: bool | None = None,
) -> Task:
    """The task that MODEL stands for, with the data and the metric that the user names, or that come with the model.

    `calibration`, `evaluation`: .npz, .safetensors, .csv (windowed as the forecaster says) or file.py:function.
    `metric`: a name on offer, or file.py:function that gives what get_metric() does.
    Raises InputError or UnknownNameError with one sentence.
    """
    found = _find(model, seed, calibration_samples, evaluation_samples)
    given = {
        role: _read(where, found, model)
        for role, where in (("calibration", calibration), ("evaluation", evaluation))
        if where is not None
    }
    samples = {"calibration": found.calibration, "evaluation": found.evaluation} | given
    calibrate, judge = samples["calibration"], samples["evaluation"]
    if judge is None:
        judge = task.synthetic(found.args, seed)
    return replace(
        found,
        calibration=None if calibrate is None else calibrate.spread(calibration_samples),
        evaluation=judge.spread(evaluation_samples),
        score=_score(found, metric, higher_is_better),
    )


def runs_code(model: str) -> bool:
    """Whether loading MODEL runs a Python file that it names."""
    return _named(model)[0].rpartition(":")[0].endswith(".py")


def _score(found: Task, metric: str | None, higher_is_better: bool | None) -> Score | None:
    """The metric that was named, the file's own, or the forecaster's; None where the data are to tell."""
    if metric is not None:
        file, _, function = metric.rpartition(":")
        given = _call(_import(Path(file)), function, metric) if file.endswith(".py") else metric
        chosen = scores.of(given, metric, higher_is_better)
    elif found.get_metric is not None:
        chosen = scores.of(found.get_metric(), f"{found.source.rpartition(':')[0]}:get_metric", higher_is_better)
    elif found.score is not None:
        chosen = scores.of(found.score.name, found.source, higher_is_better)
    elif higher_is_better is not None:
        direction = "higher" if higher_is_better else "lower"
        raise InputError(f"--{direction}-is-better says it of no metric; name one with --metric, or give get_metric()")
    else:
        return None
    return chosen if found.score is None else replace(chosen, levels=found.score.levels, scale=found.score.scale)


def bare(model: str, **sizes: int) -> Task:
    """MODEL without data, to be looked at; `sizes` are the lookback, horizon and channels of a preset.

    Raises InputError or UnknownNameError with one sentence, also for sizes of a model that has its own.
    """
    name, passes = _named(model)
    if not _is_preset(name):
        if sizes:
            raise InputError(f"{model} has its own sizes; {', '.join(sizes)} can be chosen for a preset")
        return _find(model, 0, 1, 1, data=False)
    chosen = {"lookback": LOOKBACK, "horizon": HORIZON, "channels": 1} | sizes
    built = models.create(name, **chosen)
    args = (torch.zeros(1, chosen["lookback"], chosen["channels"]),)
    cut = built if passes is None else truncated(built, passes)
    return Task(name=Path(name).stem, source=model, model=cut, args=args)


def _named(model: str) -> tuple[str, int | None]:
    """MODEL@N as MODEL and N; a file that is really called so is meant itself."""
    cut = CUT.fullmatch(model)
    return (cut[1], int(cut[2])) if cut and not Path(model).exists() else (model, None)


def _is_preset(model: str) -> bool:
    path = Path(model)
    return model in catalog.names("presets") or (path.suffix == ".toml" and path.is_file())


def _find(
    model: str, seed: int, calibration_samples: int, evaluation_samples: int | None, *, data: bool = True
) -> Task:
    name, passes = _named(model)
    found = _whole(name, seed, calibration_samples, evaluation_samples, data=data)
    if passes is None:
        return found
    if isinstance(found.model, ExportedProgram):
        raise InputError(f"{name} is a program, in which passes are no longer known; cut the model that it was made of")
    cut = truncated(found.model, passes)
    beside = _beside(run.load(Path(name)), cut) if found.baselines else []
    return replace(found, name=f"{found.name}.p{passes}", source=model, model=cut, baselines=beside)


def _beside(loaded: run.Run, cut: nn.Module) -> list[Metric]:
    """The baselines of a run beside the test error of its model when cut; the whole model is one of them."""
    inputs, targets = loaded.evaluation()
    with torch.inference_mode():
        outputs = [cut(x_BLC).numpy() for x_BLC in torch.from_numpy(inputs[:, 0]).split(CHUNK)]
    found = loaded.error(np.concatenate(outputs), targets)
    before = loaded.baselines()
    whole = replace(before[0], name="mse: all passes", value=loaded.spec.metrics[-1].mse)
    return [replace(metric, reference=found) for metric in (*before, whole)]


def _whole(model: str, seed: int, calibration_samples: int, evaluation_samples: int | None, *, data: bool) -> Task:
    path = Path(model)
    file, _, function = model.rpartition(":")
    if file.endswith(".py"):
        return _user_file(Path(file), function, model, data=data)
    if path.suffix == ".py":
        raise InputError(f"{model} is a Python file; name the function in it that gives the model: {model}:get_model")
    if path.suffix in PICKLES:
        raise InputError(
            f"{model} may be a pickle, which can run any code, so it is never opened; save the program with "
            "torch.export.save to a .pt2 file, or give file.py:get_model that builds the model and loads safetensors"
        )
    if path.suffix == ".pt2":
        return _pt2(path)
    if path.is_dir():
        return _run(path, calibration_samples, evaluation_samples)
    if _is_preset(model):
        return _preset(model, seed)
    if "/" in model or path.suffix:
        raise InputError(f"no {model}; give a preset, a RUN/ folder, a .pt2 file or file.py:get_model")
    raise UnknownNameError("preset", model, catalog.names("presets"))


def _preset(name: str, seed: int) -> Task:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = models.create(name, lookback=LOOKBACK, horizon=HORIZON)
    series_TC = _waves(4096, seed)
    inputs, targets = windows(series_TC, (0, len(series_TC)), lookback=LOOKBACK, horizon=HORIZON)
    half = len(inputs) // 2
    calibration = Samples(inputs=[np.ascontiguousarray(inputs[:half, None])], synthetic=True)
    evaluation = Samples(
        inputs=[np.ascontiguousarray(inputs[half:, None])],
        targets=np.ascontiguousarray(targets[half:, None]),
        synthetic=True,
        overlap=HORIZON,
    )
    return Task(
        name=Path(name).stem,
        source=name,
        model=model,
        args=(torch.from_numpy(calibration.inputs[0][0]),),
        calibration=calibration,
        evaluation=evaluation.spread(256),
        score=_of_forecasts(model.levels),
        columns=("waves",),
        levels=model.levels,
        seed=seed,
    )


def _of_forecasts(levels: tuple[float, ...], scale: tuple[float, ...] = ()) -> Score:
    """The metric of a forecaster: pinball of one that gives several levels."""
    return replace(scores.named("pinball" if levels else "mse"), levels=levels, scale=scale)


def _waves(rows: int, seed: int) -> NDArray[np.float32]:
    """[rows, 1] float32: a day and a week of hours, with noise. Seeded; for untrained presets only."""
    t = np.arange(rows)
    noise = np.random.default_rng(seed).normal(0.0, 0.2, rows)
    wave = np.sin(2 * np.pi * t / 24) + 0.5 * np.sin(2 * np.pi * t / 168) + noise
    return np.asarray(wave[:, None], dtype=np.float32)


def _run(folder: Path, calibration_samples: int, evaluation_samples: int | None) -> Task:
    loaded = run.load(folder)
    inputs, targets = loaded.evaluation(evaluation_samples)
    return Task(
        name=loaded.spec.config.name,
        source=str(folder),
        model=loaded.model,
        args=loaded.example_args(),
        calibration=Samples(inputs=[loaded.calibration(calibration_samples)]),
        evaluation=Samples(
            inputs=[inputs],
            targets=targets,
            starts=loaded.starts(evaluation_samples),
            overlap=loaded.overlap(evaluation_samples),
        ),
        score=_of_forecasts(loaded.model.levels, tuple(loaded.spec.scaler.std)),
        columns=loaded.spec.columns,
        levels=loaded.model.levels,
        baselines=loaded.baselines(),
        data=[info for info in loaded.data() if info.role == "train"],
        seed=loaded.spec.seed,
        title=loaded.title,
        step=loaded.spec.step,
        scales=tuple(loaded.spec.scaler.std),
    )


def _pt2(path: Path) -> Task:
    if not path.is_file():
        raise InputError(f"no file {path}; torch.export.save writes one")
    seen = _child.inspect("eager", path)  # a broken or hostile archive is met by a child, not by this process
    program = load_program(path, seen.content_sha256)
    args, kwargs = program.example_inputs or ((), {})
    if kwargs or not args:
        raise InputError(
            f"{path} was captured with keyword arguments, or with none; capture it with positional tensors"
        )
    return Task(name=path.stem, source=str(path), model=program, args=task.check_args(args, str(path)))


def _user_file(path: Path, function: str, model: str, *, data: bool = True) -> Task:
    module = _import(path)
    built = _call(module, function, model)
    if not isinstance(built, nn.Module):
        raise InputError(f"{model} gives a {type(built).__name__}; it must give a torch.nn.Module")
    if not hasattr(module, "get_args"):
        raise InputError(f"{path} has no get_args(); it must give the example arguments, a tuple of tensors")
    args = task.check_args(_call(module, "get_args", model), f"{path}:get_args")

    def samples(name: str) -> Samples | None:
        given = data and hasattr(module, name)
        return task.collect(_call(module, name, model), args, f"{path}:{name}") if given else None

    return Task(
        name=path.stem,
        source=model,
        model=built,
        args=args,
        calibration=samples("get_calibration_data"),
        evaluation=samples("get_eval_data"),
        get_metric=(lambda: _call(module, "get_metric", model)) if hasattr(module, "get_metric") else None,
        decompositions=_call(module, "get_decompositions", model) if hasattr(module, "get_decompositions") else {},
    )


def _import(path: Path) -> ModuleType:
    """Run the user's file. It is the user's own code, run with the user's rights."""
    if not path.is_file():
        raise InputError(f"no file {path}")
    name = f"_users_{path.stem}"  # a file called onnx.py must not pass for the package
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _users_code(path):
        spec.loader.exec_module(module)
    return module


@contextmanager
def _users_code(path: Path) -> Iterator[None]:
    """Runs code of the user's file, and nothing of what it does lasts but what it gives.

    What the file imports is found beside it, what it raises, sys.exit() too, is told by its line, a working folder
    that it changes to is its own, and a process that it forks ends where the file's code does.
    """
    beside, ours, process = str(path.parent.resolve()), os.getcwd(), os.getpid()
    os.chdir(_PLACES.get(beside, ours))
    sys.path.insert(0, beside)
    try:
        yield
    except (Exception, SystemExit) as error:
        if os.getpid() == process:
            raise InputError(_blame(error, path)) from None
    finally:
        if os.getpid() != process:
            os._exit(0)
        sys.path.remove(beside)
        _PLACES[beside] = os.getcwd()
        os.chdir(ours)


_PLACES: dict[str, str] = {}
"""The working folder of the user's files, by the folder that they are in, where they changed it."""


def _call(module: ModuleType, name: str, model: str) -> Any:
    function: Callable[[], Any] | None = getattr(module, name, None)
    if not callable(function):
        offered = sorted(n for n, v in vars(module).items() if callable(v) and not n.startswith("_"))
        raise InputError(f"{model}: there is no function {name!r} in the file; it has: {', '.join(offered) or 'none'}")
    path = Path(str(module.__file__))
    with _users_code(path):
        found = function()
    if not isinstance(found, Iterable) or isinstance(found, (Sized, nn.Module, Tensor)):
        return found
    return _samples(found, path)


def _samples(found: Iterable[Any], path: Path) -> Iterator[Any]:
    """A generator runs the user's code, and raises, only when asked for its samples."""
    with _users_code(path):
        samples = iter(found)
    while True:
        with _users_code(path):
            try:
                sample = next(samples)
            except StopIteration:
                return
        yield sample


def _blame(error: BaseException, path: Path) -> str:
    """The user's line that raised, and what."""
    frames = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if Path(f.filename) == path.resolve() or f.filename == str(path)
    ]
    if isinstance(error, SyntaxError):
        where = f"{path}:{error.lineno}"
    else:
        where = f"{path}:{frames[-1].lineno}, `{frames[-1].line}`" if frames else str(path)
    return f"{where} raises {type(error).__name__}: {first_line(error)}"


def _read(where: str, found: Task, model: str) -> Samples:
    """Samples from a file or a function that the user names."""
    path = Path(where)
    file, _, function = where.rpartition(":")
    if file.endswith(".py"):
        return task.collect(_call(_import(Path(file)), function, where), found.args, where)
    if not path.is_file():
        raise InputError(f"no file {where}; data may be .npz, .safetensors, .csv or file.py:function")
    match path.suffix if not where.endswith(".csv.gz") else ".csv":
        case ".npz":
            arrays = _npz(path)
        case ".safetensors":
            arrays = _safetensors(path)
        case ".csv":
            return _csv(path, found, model)
        case other:
            raise InputError(
                f"{where}: data in {other or 'a file without ending'} is not read; "
                "give .npz, .safetensors, .csv or file.py:function"
            )
    targets = arrays.pop("target", None)
    inputs = task.check_arrays([arrays[key] for key in sorted(arrays, key=task.natural)], found.args, where)
    if targets is not None and len(targets) != len(inputs[0]):
        raise InputError(f"{where} has {len(inputs[0])} samples but {len(targets)} targets")
    return Samples(inputs=inputs, targets=targets)


def _npz(path: Path) -> dict[str, Array]:
    import zipfile
    import zlib

    try:
        with path.open("rb") as file:  # which np.load leaves open when it refuses
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError("it holds one array without a name, as .npy files do")
            with archive:
                return {key: archive[key] for key in archive.files}
    except (
        ValueError,
        OSError,
        EOFError,
        KeyError,
        MemoryError,
        RuntimeError,  # NotImplementedError too, of a zip of another version
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise InputError(f"{path} is not an .npz of plain arrays: {first_line(error)}") from None


def _safetensors(path: Path) -> dict[str, Array]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a safetensors file: {first_line(error)}") from None


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
