"""A small forecaster, captured once, and its jobs."""

import pytest
import torch

from edgepass import models
from edgepass.exporters import Job
from edgepass.exporters._capture import Program, capture
from edgepass.judging.candidate import Standard
from edgepass.quantize import recipe
from edgepass.samples import Samples
from edgepass.task import Task
from runtime_tests.exporters.small import CHANNELS, HORIZON, LOOKBACK, RECIPES, waves


@pytest.fixture(scope="session")
def task() -> Task:
    torch.manual_seed(0)
    forecaster = models.create("single-xs", lookback=LOOKBACK, horizon=HORIZON, channels=CHANNELS)
    forecaster.set_scaler([500.0] * CHANNELS, [30.0] * CHANNELS)
    return Task(
        name="tiny",
        source="test",
        model=forecaster,
        args=(torch.from_numpy(waves(1, 0)[0]),),
        calibration=Samples(inputs=[waves(32, 1)]),
        evaluation=Samples(inputs=[waves(16, 2)]),
    )


@pytest.fixture(scope="session")
def program(task: Task) -> Program:
    return capture(task.module, task.args)


@pytest.fixture(scope="session")
def standard(task: Task) -> Standard:
    assert task.evaluation
    return Standard(samples=task.evaluation, reference=task.reference(task.evaluation), score=None)


@pytest.fixture(scope="session")
def jobs(task: Task, program: Program) -> dict[str, Job]:
    assert task.calibration
    return {name: Job(program, recipe.read(name), task.calibration.arguments) for name in RECIPES}
