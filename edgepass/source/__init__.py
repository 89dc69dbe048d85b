"""MODEL on the command line: a preset, a RUN/ folder, a `.pt2` file, or `file.py:get_model`, as a Task."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.export import ExportedProgram

from edgepass import catalog, methods, models
from edgepass.arrays import named_arrays as named_arrays
from edgepass.calling import Call
from edgepass.errors import InputError, UnknownNameError, expect_text
from edgepass.judging import score as scores
from edgepass.judging.manifest import Metric
from edgepass.judging.score import Score
from edgepass.models.truncation import truncated
from edgepass.runtimes import Array as Array
from edgepass.runtimes import _child
from edgepass.runtimes.eager._archive import load_program
from edgepass.samples import Samples, check_args, check_tensors, collect
from edgepass.samples import check_arrays as check_arrays
from edgepass.samples import check_targets as check_targets
from edgepass.samples import natural as natural
from edgepass.series import run
from edgepass.series.baselines import CHUNK
from edgepass.series.table import read_csv as read_csv
from edgepass.series.windows import windows
from edgepass.source import named, users_file
from edgepass.task import Task, refuse_scripted, stand_in

LOOKBACK, HORIZON = 336, 96
"""Sizes of a preset that is exported untrained, to see what it costs."""
CUT = re.compile(r"(.+)@(\d+)", re.DOTALL)
"""MODEL@N is MODEL cut after pass N."""
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin")

Say = Callable[[str], None]


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
    sequence: int | None = None,
    before: Mapping[str, Metric] = MappingProxyType({}),
    say: Say = lambda line: None,
) -> Task:
    """The task that MODEL stands for, with the data and the metric that the user names, or that come with the model.

    `calibration`, `evaluation`: .npz, .safetensors, .csv (windowed as the forecaster says) or file.py:function.
    `metric`: a name on offer, or file.py:function that gives what get_metric() does; `before`: what that of each
    method was in a folder.
    `sequence`: calls after which the state of a model that keeps any begins anew in them.
    Raises InputError or UnknownNameError with one sentence.
    """
    found = _find(model, seed, calibration_samples, evaluation_samples, say=say)
    given = {
        role: named.read(where, found, model, say)
        for role, where in (("calibration", calibration), ("evaluation", evaluation))
        if where is not None
    }

    def complete(one: Task) -> Task:
        own = {role: samples[one.method] for role, samples in given.items() if one.method in samples}
        calibrate, judge = own.get("calibration", one.calibration), own.get("evaluation", one.evaluation)
        if judge is None:
            judge = stand_in(one, seed)
        return replace(
            one,
            calibration=None if calibrate is None else calibrate.spread(calibration_samples),
            evaluation=judge.spread(evaluation_samples),
            score=_score(one, metric, higher_is_better, before.get(one.method)),
            sequence=sequence,
        )

    return found.mapped(complete)


def runs_code(model: str) -> bool:
    """Whether loading MODEL runs a Python file that it names."""
    return _named(model)[0].rpartition(":")[0].endswith(".py")


def _score(found: Task, metric: str | None, higher_is_better: bool | None, before: Metric | None) -> Score | None:
    """The metric that was named, the file's own, or the forecaster's; None where the data are to tell."""
    if metric is not None:
        file, _, function = metric.rpartition(":")
        given = users_file.call(users_file.load_file(Path(file)), function, metric) if file.endswith(".py") else metric
        chosen = scores.of(given, metric, higher_is_better, before)
    elif found.get_metric is not None:
        where = f"{found.source.rpartition(':')[0]}:get_metric"
        given = found.get_metric()
        if found.method and isinstance(given, Mapping):
            if found.method not in given:
                return None
            given = given[found.method]
        chosen = scores.of(given, where, higher_is_better, before)
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
    model: str,
    seed: int,
    calibration_samples: int,
    evaluation_samples: int | None,
    *,
    data: bool = True,
    say: Say = lambda line: None,
) -> Task:
    name, passes = _named(model)
    found = _whole(name, seed, calibration_samples, evaluation_samples, data=data, say=say)
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


def _whole(
    model: str, seed: int, calibration_samples: int, evaluation_samples: int | None, *, data: bool, say: Say
) -> Task:
    path = Path(model)
    file, _, function = model.rpartition(":")
    if file.endswith(".py") or path.exists():
        expect_text(path, "move the model, or rename what is not")
    if file.endswith(".py"):
        return _user_file(Path(file), function, model, data=data, say=say)
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
    if not (args or kwargs):
        raise InputError(f"{path} was captured without arguments, which a file cannot be; capture it with tensors")
    call = Call(tuple(args), kwargs)
    return Task(
        name=path.stem,
        source=str(path),
        model=program if call.is_plain else call.positional(program.module()),
        args=check_tensors(call.tensors, str(path)),
        call=call,
    )


def _user_file(path: Path, function: str, model: str, *, data: bool, say: Say) -> Task:
    module = users_file.load_file(path)
    built = users_file.call(module, function, model)
    refuse_scripted(built, model)
    if not isinstance(built, nn.Module):
        raise InputError(f"{model} gives a {type(built).__name__}; it must give a torch.nn.Module")
    several = hasattr(module, "get_methods")
    if several == hasattr(module, "get_args"):
        raise InputError(
            f"{path} has both get_args() and get_methods(); keep get_methods(), which may name forward too"
            if several
            else f"{path} has no get_args(); it must give the example arguments, a tuple of tensors"
        )
    where = f"{path}:get_{'methods' if several else 'args'}"
    given = users_file.call(module, where.rpartition(":")[2], model)
    example = methods.examples(given, where) if several else {"": given}
    names = list(example)
    views = {method: methods.method(built, method, where) if method else built for method in names}
    calls = {method: Call.of(given, f"{where} {method}".rstrip()) for method, given in example.items()}

    def data_of(name: str) -> dict[str, Any]:
        if not data or not hasattr(module, name):
            return {}
        found = users_file.samples(module, name, model, several=several)
        return methods.by_name(found, names, f"{path}:{name}") if several else {"": found}

    calibration, evaluation = data_of("get_calibration_data"), data_of("get_eval_data")
    get_metric = (lambda: users_file.call(module, "get_metric", model)) if hasattr(module, "get_metric") else None
    decompositions = (
        users_file.call(module, "get_decompositions", model) if hasattr(module, "get_decompositions") else {}
    )

    def task(method: str) -> Task:
        call = calls[method]
        args = check_args(example[method], f"{where} {method}".rstrip(), call)

        def samples(role: Mapping[str, Any], name: str) -> Samples | None:
            where = f"{path}:{name} {method}".rstrip()
            return collect(role[method], args, where, say, call) if method in role else None

        return Task(
            name=path.stem,
            source=model,
            model=call.positional(views[method]),
            args=args,
            call=call,
            calibration=samples(calibration, "get_calibration_data"),
            evaluation=samples(evaluation, "get_eval_data"),
            get_metric=get_metric,
            decompositions=decompositions,
            method=method,
        )

    return Task.of_methods(map(task, names))
