"""What a file of the corpus says of its model."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgepass.judging import score
from edgepass.judging.score import Score
from edgepass.samples import Samples
from edgepass.task import Task

CALIBRATION, EVALUATION = 32, 32
Data = Callable[[int, int], tuple[list[Tensor], Tensor | None]]
"""(count, seed) -> a tensor [count, ...] for each argument, without its batch, and labels [count], if any."""


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """A model that somebody else wrote: how it is made, how it is trained, if it is, and data for it.

    With labels in its data it is a classifier, and is judged by its accuracy too.
    """

    make: Callable[[], nn.Module]
    data: Data
    train: Callable[[Callable[[], nn.Module]], nn.Module] | None = None

    def task(self, name: str, *, trained: bool = True) -> Task:
        """The model, made from one seed, with data to calibrate and to judge it."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = (self.train(self.make) if self.train and trained else self.make()).eval()
        calibration, evaluation = self._samples(CALIBRATION, 1), self._samples(EVALUATION, 2)
        return Task(
            name=name,
            source=f"runtime_tests/corpus/{name}.py",
            model=model,
            args=tuple(torch.from_numpy(x[0]) for x in calibration.inputs),
            calibration=calibration,
            evaluation=evaluation,
            score=self._score(evaluation),
        )

    def _samples(self, count: int, seed: int) -> Samples:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            inputs, labels = self.data(count, seed)
        return Samples(
            inputs=[x.unsqueeze(1).contiguous().numpy() for x in inputs],
            targets=None if labels is None else labels.numpy(),
        )

    def _score(self, evaluation: Samples) -> Score | None:
        return None if evaluation.targets is None else score.of("accuracy", "the corpus", None)
