"""A task metric with its direction: one on offer by name, a torchmetrics object, or a function that says which way."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from edgepass import catalog
from edgepass.errors import InputError, first_line
from edgepass.judging.manifest import Manifest, Metric
from edgepass.judging.metrics import _reading
from edgepass.judging.metrics._measure import FEWEST, Floats, Measure, Truth, mean
from edgepass.runtimes import Array

Given = str | Callable[..., Any] | tuple[Callable[..., Any], str]
"""A name on offer, a torchmetrics object, a function, or a function with "higher" or "lower"."""
DIRECTIONS = {"higher": True, "lower": False}
DEAREST = 0.04
"""Seconds: a function that takes longer is not resampled."""
MOST_ROWS = 4096
"""A function is also asked for the metric of each sample alone, where there are no more."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """How files are scored: `measure(outputs, truth)` of one output, or of a tuple of all."""

    name: str
    higher_is_better: bool
    measure: Callable[[Any, Truth], Measure]
    output: int | Literal["all"] = 0
    levels: tuple[float, ...] = ()
    """What a forecaster gives of each value, where that is several."""
    scale: tuple[float, ...] = ()
    """Units of the last axis; () for those of the targets."""

    def on(self, outputs: list[Array], truth: Truth) -> Measure:
        """The measure of the outputs that it is of. Raises InputError when they or the targets do not suit it."""
        given = tuple(outputs) if self.output == "all" else outputs[self.output]
        try:
            return self.measure(given, truth)
        except InputError:
            raise
        except Exception as error:
            arrays = outputs if self.output == "all" else [outputs[self.output]]
            told = ", ".join(f"{a.dtype}{list(a.shape)}" for a in arrays)
            raise InputError(
                f"the metric {self.name} of outputs {told} and targets {truth.targets.dtype}"
                f"{list(truth.targets.shape)} raises {type(error).__name__}: {first_line(error)}; "
                "give targets that it takes, or another metric"
            ) from None


def named(name: str) -> Score:
    """A metric on offer; raises UnknownNameError."""
    module = catalog.load("metrics", name)
    return Score(name=name, higher_is_better=module.HIGHER_IS_BETTER, measure=module.measure)


def again(score: Score | None, made: Manifest) -> Score | None:
    """The metric that a manifest was made with, where it is one on offer; else the one given."""
    name = made.metric.name if made.metric else None
    if name not in catalog.names("metrics") or (score is not None and score.name == name):
        return score
    return named(name) if score is None else replace(named(name), levels=score.levels, scale=score.scale)


def of(given: Any, source: str, higher_is_better: bool | None = None, before: Metric | None = None) -> Score:
    """The metric that a user gives, and its direction, which must be said once or alike. Raises InputError.

    `before`: the same metric may have been used before, and the direction is that of then if nothing says another.
    """
    said = higher_is_better
    if isinstance(given, (tuple, list)):
        if len(given) != 2 or given[1] not in DIRECTIONS:
            raise InputError(f'{source} gives a {type(given).__name__}; a pair must be (function, "higher" | "lower")')
        given, direction = given
        said = _agreed(source, DIRECTIONS[direction], said)
    if isinstance(given, str):
        score = named(given)
        _agreed(f"the metric {given}", score.higher_is_better, said)
        return score
    if isinstance(given, type):
        raise InputError(f"{source} gives the class {given.__name__}; give an object of it: {given.__name__}(…)")
    stateful = all(callable(getattr(given, name, None)) for name in ("update", "compute", "reset"))
    if not callable(given) and not stateful:
        raise InputError(
            f"{source} gives a {type(given).__name__}; it must be a name ({', '.join(catalog.names('metrics'))}), a "
            'torchmetrics object, or (function, "higher" | "lower")'
        )
    name = type(given).__name__ if stateful else getattr(given, "__name__", type(given).__name__)
    name = "metric" if name == "<lambda>" else name
    own = getattr(given, "higher_is_better", None)
    if own is not None and not isinstance(own, bool):
        raise InputError(f"{source}: higher_is_better of {name} is {own!r}; it must be True or False")
    said = _agreed(f"the metric {name}", own, said) if own is not None else said
    if said is None and before is not None and before.name == name:
        said = before.higher_is_better
    if said is None:
        raise InputError(
            f'nothing says whether a higher {name} is better; let {source} give ({name}, "higher") or '
            f'({name}, "lower"), or add --higher-is-better or --lower-is-better'
        )
    output = getattr(given, "output", 0)
    if output != "all" and (not isinstance(output, int) or isinstance(output, bool) or output < 0):
        raise InputError(f'{source}: output of {name} is {output!r}; it must be the number of an output, or "all"')
    function = _from_object(given) if stateful else given
    return Score(name=name, higher_is_better=said, measure=_measured(function), output=output)


def default(reference: Array, targets: Array) -> Score | str:
    """The metric where shapes and dtypes leave but one; else a sentence that says what to do.

    Raises InputError when the targets fit the outputs in no way.
    """
    floating = np.issubdtype(targets.dtype, np.floating)
    numbers = np.issubdtype(reference.dtype, np.floating)
    axes = _reading.class_axes(reference, targets) if numbers and not floating else []
    if axes:
        try:
            _reading.labelled("accuracy", Truth(reference=reference, targets=targets))
        except InputError as error:
            return f"there is no task metric: {error}"
        return named("accuracy")
    if not _reading.alike(reference, targets):
        told = [f"{a.dtype}{list(a.shape)}" for a in (reference, targets)]
        raise InputError(
            f"targets {told[1]} do not fit outputs {told[0]}; give targets shaped as the first output, or class "
            "numbers for scores [N, classes, ...], or a get_metric() that takes them"
        )
    if floating and not _reading.two(targets):
        return named("mse")
    if targets.dtype == np.bool_ or (not numbers and not floating):
        return named("accuracy")
    kind = "targets that are all 0 or 1" if floating else "integer targets with one number for each"
    return f"there is no task metric: {kind} may be classes or values; say which: --metric accuracy or --metric mse"


def _agreed(what: str, own: bool, said: bool | None) -> bool:
    if said is not None and said != own:
        words = ("higher" if own else "lower", "lower" if own else "higher")
        raise InputError(f"{what} says that {words[0]} is better, but {words[1]} was asked for; say one of them")
    return own


def _from_object(metric: Any) -> Callable[[Any, Any], Any]:
    def function(outputs: Any, targets: Any) -> Any:
        metric.reset()
        metric.update(outputs, targets)
        return metric.compute()

    return function


def _measured(function: Callable[[Any, Any], Any]) -> Callable[[Any, Truth], Measure]:
    """A user's function of tensors as a measure: samples are repeated as often as their weight says."""

    def measure(outputs: Any, truth: Truth) -> Measure:
        arrays, targets = (outputs if isinstance(outputs, tuple) else (outputs,)), truth.targets

        def at(rows: Any) -> float:
            *given, wanted = [
                torch.from_numpy(np.array(a[rows])) for a in (*arrays, targets)
            ]  # copies, to do with as it likes
            return float(function(tuple(given) if isinstance(outputs, tuple) else given[0], wanted))

        def of_weights(weights_RN: Floats) -> Floats:
            rows = np.arange(len(targets))
            return np.array([at(rows.repeat(w_N.astype(np.int64))) for w_N in weights_RN])

        began = time.perf_counter()
        whole = at(slice(None))
        dear = time.perf_counter() - began > DEAREST
        values_N = _alone(at, whole, len(targets))
        if values_N is not None:
            return mean(values_N, whole=whole)
        return Measure(of=of_weights, rows=len(targets), draws=0 if dear else FEWEST, whole=whole)

    return measure


def _alone(at: Callable[[slice], float], whole: float, rows: int) -> Floats | None:
    """The metric of each sample alone, if the whole's is their mean; None of one that is more than that."""
    if rows > MOST_ROWS:
        return None
    try:
        half = (rows + 1) // 2
        halves = (half * at(slice(half)) + (rows - half) * (at(slice(half, None)) if rows > 1 else 0.0)) / rows
        if not np.isclose(halves, whole, rtol=1e-5, atol=1e-12):
            return None
        values_N = np.array([at(slice(row, row + 1)) for row in range(rows)])
    except Exception:  # a metric of many samples may well refuse one
        return None
    return values_N if np.isclose(values_N.mean(), whole, rtol=1e-5, atol=1e-12) else None
