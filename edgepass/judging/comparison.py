"""A file's task metric beside the float model's, on the same samples: how much worse, how surely, and against what.

Shapes: N samples, R resamplings.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from edgepass.errors import InputError
from edgepass.judging import resampling
from edgepass.judging import score as scores
from edgepass.judging.manifest import Metric
from edgepass.judging.metrics import _reading
from edgepass.judging.metrics._measure import Floats, Measure, Truth
from edgepass.judging.score import Score
from edgepass.runtimes import Array
from edgepass.samples import Samples

ROUNDING = 1e-6
"""Of the float model's mean: a sample that is worse by less is not worse."""
CLASSES, NUMBERS = 16, 5e7
"""So many of the most frequent are tried as constant answers, fewer where that makes more numbers."""
APART = 0.02
"""Drops of 1 % and of 3 % lie so far apart."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The float model's outputs under a metric, for files to be held against."""

    score: Score
    truth: Truth
    batch: int | None
    overlap: int
    """Samples in a row that are resampled together."""
    reference: list[Array]
    float_measure: Measure
    names: Sequence[str]

    def metric(self, outputs: list[Array]) -> Metric:
        """The file's value beside the reference's, the worst where it is not finite.

        Raises InputError where the metric cannot be had from what the file gives.
        """
        rows = [by_row(output, self.batch) for output in outputs]
        measure = self.score.on(rows, self.truth)
        if not np.isfinite(measure.value):
            return self.worst
        found = replace(self.worst, value=measure.value)
        same = all(np.array_equal(mine, float32) for mine, float32 in zip(rows, self.reference, strict=True))
        return replace(
            found,
            interval=(0.0, 0.0) if same else self._interval(found, measure),
            not_worse=_not_worse(self.float_measure, measure, higher_is_better=self.score.higher_is_better),
        )

    @property
    def worst(self) -> Metric:
        """That of a file that gives no metric: the worst value that JSON holds."""
        higher = self.score.higher_is_better
        return Metric(
            name=self.score.name,
            reference=self.float_measure.value,
            value=float(np.finfo(np.float64).max) * (-1 if higher else 1),
            higher_is_better=higher,
            samples=self.float_measure.rows,
            constant=None if self.constant is None else self.constant.value,
            constant_interval=self.constant_interval,
            output=self._said(),
        )

    @cached_property
    def constant(self) -> Measure | None:
        """The best of a few answers that are the same for every sample; None where none can be scored."""
        best: Measure | None = None
        for outputs in _constants(self.score, self.reference, self.truth):
            try:
                found = self.score.on(outputs, self.truth)
            except InputError:
                continue
            if np.isfinite(found.value) and (best is None or self.better(found, best)):
                best = found
        return best

    @cached_property
    def constant_interval(self) -> tuple[float, float] | None:
        """Where the drop from the model to that answer lies with 95 % confidence; None where it cannot be told."""
        if self.constant is None:
            return None
        beside = Metric(
            name=self.score.name,
            reference=self.float_measure.value,
            value=self.constant.value,
            higher_is_better=self.score.higher_is_better,
            samples=self.float_measure.rows,
        )
        return self._interval(beside, self.constant)

    def better(self, one: Measure, other: Measure) -> bool:
        """Whether one has the better value."""
        return one.value > other.value if self.score.higher_is_better else one.value < other.value

    @cached_property
    def _reference_R(self) -> Floats:
        return resampling.resampled(self.float_measure, self.float_measure.draws, self.overlap)

    def _interval(self, found: Metric, measure: Measure) -> tuple[float, float] | None:
        rows = self.float_measure.rows
        if rows < 2 or not self.float_measure.draws:
            return None
        value_R = resampling.resampled(measure, len(self._reference_R), self.overlap)
        worse_R = (self._reference_R - value_R) * (1 if self.score.higher_is_better else -1)
        drop_R = worse_R / np.maximum(np.abs(self._reference_R), 1e-12)
        return resampling.interval(drop_R, found.drop, rows / self.overlap, found.reference)

    def _said(self) -> str:
        which = "all outputs" if self.score.output == "all" else self.names[self.score.output]
        return f"{which}, {self.float_measure.reads}" if self.float_measure.reads else which


def compare(
    score: Score | None, samples: Samples, reference: list[Array], names: Sequence[str] = ()
) -> tuple[Comparison | None, list[str]]:
    """The comparison by a metric, the default one where None is given, and what a reader should know of it.

    None where there are no targets, or no metric can be known. Raises InputError where the metric cannot be had.
    """
    if samples.targets is None:
        if score is None:
            return None, []
        return None, [
            f"{score.name} is not measured: the evaluation data have no targets; give pairs (arguments, target)"
        ]
    number = 0 if score is None or score.output == "all" else score.output
    if score is not None and number >= len(reference):
        raise InputError(f"the metric {score.name} is of output {number}, but the model gives {len(reference)}, from 0")
    batch = _batch(samples, reference[number])
    rows = [by_row(output, batch) for output in reference]
    inputs = tuple(by_row(x, batch) for x in samples.inputs)
    targets = samples.targets
    if targets.shape != rows[number].shape:  # one of that shape has no axis too many
        targets = by_row(targets, batch)
    if score is None:
        chosen = scores.default(rows[0], targets)
        if isinstance(chosen, str):
            return None, [chosen]
        score = chosen
    truth = Truth(reference=rows[number], targets=targets, inputs=inputs, levels=score.levels, scale=score.scale)
    measure = score.on(rows, truth)
    if not np.isfinite(measure.value):
        raise InputError(
            f"the metric {score.name} of the float32 model is {measure.value}; mend the metric or the targets"
        )
    made = Comparison(
        score=score,
        truth=truth,
        batch=batch,
        overlap=samples.overlap,
        reference=rows,
        float_measure=measure,
        names=names or [f"output_{n}" for n in range(len(reference))],
    )
    return made, [*_too_dear(made), *_no_better(made)]


def by_row(stacked: Array, batch: int | None) -> Array:
    """[n, B, ...] of n calls as [n B, ...], where B is the batch; as it is, where there is none."""
    if batch is None or stacked.ndim < 2 or stacked.shape[1] != batch:
        return stacked
    return stacked.reshape(len(stacked) * batch, *stacked.shape[2:])


def too_few(metrics: list[Metric]) -> list[str]:
    """A sentence where the samples cannot tell a drop of 1 % from one of 3 %."""
    wide = [(m.interval[1] - m.interval[0], m) for m in metrics if m.interval]
    width, metric = max(wide, key=lambda pair: pair[0], default=(0.0, None))
    if metric is None or width <= APART:
        return []
    return [
        f"{metric.samples} samples cannot tell a drop in {metric.name} of 1 % from one of 3 %: the widest 95 % "
        f"interval is {100 * width:.2g} % across; give more evaluation data"
    ]


def _batch(samples: Samples, outputs: Array) -> int | None:
    """The first dimension of one call, if inputs, the outputs that are scored and targets share it."""
    found = next((x.shape[1] for x in samples.inputs if x.ndim > 1), None)
    if found is None or samples.targets is None or outputs.ndim < 2 or outputs.shape[1] != found:
        return None
    shared = samples.targets.ndim > 1 and samples.targets.shape[1] == found
    return found if found == 1 or shared else None


def _not_worse(mine: Measure, other: Measure, *, higher_is_better: bool) -> float | None:
    if mine.values_N is None or other.values_N is None:
        return None
    worse_N = (mine.values_N - other.values_N) * (1 if higher_is_better else -1)
    return float((worse_N <= ROUNDING * np.abs(mine.values_N).mean()).mean())


def _too_dear(made: Comparison) -> list[str]:
    if made.float_measure.draws:
        return []
    return [f"{made.score.name} takes too long to be resampled, so its drop has no interval"]


def _no_better(made: Comparison) -> list[str]:
    """Told where the float model is no better than an answer that never changes, or not surely so."""
    if made.constant is None:
        return []
    mine, name = made.float_measure, made.score.name
    both = f"its {name} is {mine.value:.4g}, the constant's {made.constant.value:.4g}"
    if not made.better(mine, made.constant):
        return [
            f"the float model itself is no better than one constant answer: {both}; what a file loses of that says "
            "little"
        ]
    if made.constant_interval is not None and made.constant_interval[0] <= 0:
        return [f"{mine.rows} samples do not tell the float model from one constant answer: {both}; give more"]
    return []


def _constants(score: Score, reference: list[Array], truth: Truth) -> Iterator[list[Array]]:
    """Outputs that are the same for every sample: the model's mean, and the best that the targets know of."""
    yield [np.broadcast_to(r.mean(axis=0, keepdims=True).astype(r.dtype), r.shape) for r in reference]
    if score.output == "all":
        return
    outputs, targets = truth.reference, truth.targets
    for answer in _answers(outputs, targets, truth.levels):
        changed = list(reference)
        changed[score.output] = np.broadcast_to(answer.astype(outputs.dtype), outputs.shape)
        yield changed


def _answers(outputs: Array, targets: Array, levels: tuple[float, ...]) -> Iterator[Array]:
    shape = (1, *outputs.shape[1:])
    numbers = targets.astype(np.float64)
    if levels and outputs.size == targets.size * len(levels):
        yield np.quantile(numbers, levels, axis=0).reshape(shape)
        return
    if _reading.alike(outputs, targets):
        yield numbers.mean(axis=0).reshape(shape)
        yield np.median(numbers, axis=0).reshape(shape)
        if _reading.whole(targets):
            labels = _reading.two(targets) and np.issubdtype(outputs.dtype, np.floating)
            most = [np.full(shape, common, np.float64) for common in _most_common(targets, outputs.size)]
            most.append(np.round(numbers.mean(axis=0)).reshape(shape))
            yield from (2 * answer - 1 if labels else answer for answer in most)  # either side of any threshold
        return
    for axis in _reading.class_axes(outputs, targets):
        for common in _most_common(targets, outputs.size):
            if 0 <= common < outputs.shape[axis]:
                answer = np.zeros(shape)
                np.moveaxis(answer, axis, 0)[int(common)] = 1.0
                yield answer


def _most_common(targets: Array, outputs: int) -> Array:
    classes, times = np.unique(targets, return_counts=True)
    tried = int(np.clip(NUMBERS / outputs, 1, CLASSES))
    return classes[np.argsort(-times, kind="stable")[:tried]]
