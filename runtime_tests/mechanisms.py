"""Every mechanism of the family in a small model of its own, with data: what the matrix exports and measures.

A mechanism is a part, or a mixer's step. The folders say which there are, so a new file is in the matrix unasked.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import torch
from torch import nn

from edgepass import catalog
from edgepass.models import parts
from edgepass.models.config import Config
from edgepass.models.forecaster import Forecaster
from edgepass.models.parts import Tokens
from edgepass.models.passformer import Passformer
from edgepass.models.streaming import OneStep, is_recurrent
from edgepass.runtimes import Array
from edgepass.samples import Samples
from edgepass.task import Task

LOOKBACK, HORIZON, CHANNELS, DIM = 96, 24, 3, 32
SHAPES = {
    ("lookback", "channels"): (LOOKBACK, CHANNELS),
    ("frames", "rows", "columns"): (4, 16, 16),
    ("tokens",): (24,),
    ("features",): (5,),
}
CALIBRATION, EVALUATION = 16, 8
PASS = {
    "mixer": {"name": "local_attention", "heads": 4, "window": 8},
    "channel_mixer": {"name": "feed_forward", "ratio": 2.0},
}
USUAL: dict[str, Any] = {
    "name": "mechanism",
    "dim": DIM,
    "embedding": {"name": "patch", "size": 4},
    "passes": [PASS],
    "direct": False,
}
"""The model around a mechanism, where its file does not ask for another in EXAMPLE: 24 tokens of 32 channels."""


@dataclass(frozen=True)
class Mechanism:
    """One row of the matrix."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}.{self.name}"

    @property
    def module(self) -> Any:
        """The file that it is."""
        return catalog.load("mixers" if self.kind == "steps" else self.kind, self.name)

    @property
    def grade(self) -> int:
        """How it exports, by edgepass.models.parts.GRADES; a step holds a state."""
        return 2 if self.kind == "steps" else int(self.module.GRADE)

    def config(self) -> Config:
        """The small model that it stands in."""
        table = copy.deepcopy(USUAL)
        choice = {"name": self.name}
        match self.kind:
            case "mixers" | "steps":
                table["passes"] = [{**PASS, "mixer": choice}]
            case "channel_mixers":
                table["passes"] = [{**PASS, "channel_mixer": choice}]
            case "merges":
                table |= {"topology": {"name": "branches", "merge": choice}, "passes": [PASS, PASS]}
            case "topologies":
                table |= {"topology": choice, "passes": [PASS, PASS]}
            case kind:
                table[catalog.singular(kind)] = choice
        return msgspec.convert(table | getattr(self.module, "EXAMPLE", {}), Config)

    def model(self) -> nn.Module:
        """Seeded random weights, in evaluation mode."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return (self._step() if self.kind == "steps" else build(self.config())).eval()

    def _step(self) -> OneStep:
        choice = self.config().passes[0].mixer
        assert choice is not None
        return OneStep(parts.make("mixers", choice, Tokens((LOOKBACK // 4,), DIM)))

    def task(self, evaluation: int = EVALUATION) -> Task:
        """The model with data to calibrate and judge it."""
        model = self.model()
        calibration, judging = (self._samples(model, n, s) for n, s in ((CALIBRATION, 1), (evaluation, 2)))
        args = tuple(torch.from_numpy(x[0]) for x in calibration.inputs)
        return Task(
            name=self.name, source=str(self), model=model, args=args, calibration=calibration, evaluation=judging
        )

    def _samples(self, model: nn.Module, count: int, seed: int) -> Samples:
        if isinstance(model, OneStep):
            return Samples(inputs=model.stream(noise(count, seed, (1, DIM))))
        takes = catalog.load("embeddings", self.config().embedding["name"]).SHAPE
        return Samples(inputs=[data(takes, count, seed)])


def build(config: Config) -> nn.Module:
    """A forecaster where the head forecasts, else a Passformer; at the sizes of this module."""
    shape = SHAPES[catalog.load("embeddings", config.embedding["name"]).SHAPE]
    if getattr(catalog.load("heads", config.head["name"]), "FORECASTS", False):
        return Forecaster(config, lookback=LOOKBACK, horizon=HORIZON, channels=CHANNELS)
    return Passformer(config, shape=shape, outputs=5)


def data(takes: tuple[str, ...], count: int, seed: int) -> Array:
    """[count, 1, *shape]: waves for a series, words for text, noise for a video or for features."""
    shape = SHAPES[takes]
    if takes == ("tokens",):
        return np.random.default_rng(seed).integers(0, 32, (count, 1, *shape))
    if takes in (("frames", "rows", "columns"), ("features",)):
        return noise(count, seed, (1, *shape))
    generator = np.random.default_rng(seed)
    t = np.arange(LOOKBACK)[None, :, None]
    phase = generator.uniform(0, 6, (count, 1, CHANNELS))
    x = np.sin(t / 4 + phase) + 0.5 * np.sin(t / 11 + 2 * phase) + generator.normal(0, 0.1, (count, *shape))
    return x[:, None].astype(np.float32)


def noise(count: int, seed: int, shape: tuple[int, ...]) -> Array:
    """[count, *shape] standard normal float32."""
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


def every() -> Iterator[Mechanism]:
    """All of them, in the order of their kinds."""
    for kind in parts.CLASSES:
        for name in catalog.names(kind):
            yield Mechanism(kind, name)
            if kind == "mixers" and is_recurrent(catalog.load(kind, name).Mixer):
                yield Mechanism("steps", name)
