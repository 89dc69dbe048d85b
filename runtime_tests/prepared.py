"""A model made ready to be written and judged, once however many files are made of it."""

from abc import ABC, abstractmethod
from functools import cached_property

from edgepass.exporters._capture import Program, capture
from edgepass.judging.candidate import Standard
from edgepass.task import Task


class Prepared(ABC):
    """What follows from `task`, which has evaluation data."""

    @property
    @abstractmethod
    def task(self) -> Task:
        """The model and its data."""

    @cached_property
    def program(self) -> Program:
        """The captured model."""
        return capture(self.task.model, self.task.args)

    @cached_property
    def standard(self) -> Standard:
        """What the float model gives."""
        assert self.task.evaluation
        return Standard(samples=self.task.evaluation, reference=self.task.reference(self.task.evaluation), score=None)
