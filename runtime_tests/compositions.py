"""Models of two inputs or of two graphs, with data: rows of the matrix that are no single part."""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from edgepass.models import encoder_decoder as text_models
from edgepass.models import pair as pair_models
from edgepass.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from edgepass.models.pair import Pair, PairConfig
from edgepass.runtimes import Array
from edgepass.samples import Samples
from edgepass.task import Task
from runtime_tests.mechanisms import CALIBRATION, DIM, EVALUATION, PASS, SHAPES, data

WAVES, VIDEO, WORDS, FEATURES = ("lookback", "channels"), ("frames", "rows", "columns"), ("tokens",), ("features",)
WAVES_TRUNK = {"dim": DIM, "embedding": {"name": "patch", "size": 4, "channels": "together"}, "passes": [PASS]}
VIDEO_TRUNK = {"dim": 16, "embedding": {"name": "frames"}, "passes": [PASS]}
FEATURES_TRUNK = {"dim": 16, "embedding": {"name": "features"}, "encoding": {"name": "none"}, "passes": []}
PAIRS = ("pair", "side_features")
WRITTEN = 24
"""Words that the decoder has written when its data ends."""


def pair(kind: str) -> tuple[Pair, tuple[tuple[str, ...], ...]]:
    """A model of a series and a video, or of a series and features, and what its inputs are."""
    second, merge, takes = (
        (VIDEO_TRUNK, "cross_attend", VIDEO) if kind == "pair" else (FEATURES_TRUNK, "summary", FEATURES)
    )
    table = {"first": WAVES_TRUNK, "second": second, "merge": {"name": merge}, "passes": [PASS]}
    model = Pair(msgspec.convert(table, PairConfig), shapes=(SHAPES[WAVES], SHAPES[takes]), outputs=5)
    return model, (WAVES, takes)


def encoder_decoder() -> EncoderDecoder:
    """Words to words."""
    table = {"encoder": {"dim": DIM, "embedding": {"name": "words"}, "passes": [PASS]}, "length": 40}
    return EncoderDecoder(msgspec.convert(table, EncoderDecoderConfig), shape=SHAPES[WORDS])


def decoding(model: EncoderDecoder, count: int, seed: int) -> list[Array]:
    """The arguments of `count` steps, spread over the greedy decoding of one text: [count, *argument] each."""
    (words,) = torch.from_numpy(data(WORDS, 1, seed))
    rows: list[tuple[Tensor, ...]] = []
    with torch.no_grad():
        memory, cache, word_B = model.encoder(words), model.decoder.start(1), torch.zeros(1, dtype=torch.int64)
        for place in range(WRITTEN):
            rows.append((word_B, torch.full((1,), float(place)), *memory, *cache))
            scores_BV, *cache = model.decoder(*rows[-1])
            word_B = scores_BV.argmax(dim=1)
    kept = [rows[i] for i in np.linspace(0, WRITTEN - 1, count).astype(int)]
    return [torch.stack(column).numpy() for column in zip(*kept, strict=True)]


@dataclass(frozen=True)
class Composition:
    """One row of the matrix."""

    name: str
    kind: ClassVar[str] = "models"

    def __str__(self) -> str:
        return f"{self.kind}.{self.name}"

    @property
    def module(self) -> ModuleType:
        """The file that says what it is."""
        return pair_models if self.name in PAIRS else text_models

    @property
    def grade(self) -> int:
        """Two inputs need no more than their parts; the two graphs of text have a state between them."""
        return 0 if self.name in PAIRS else 2

    def task(self, evaluation: int = EVALUATION) -> Task:
        """The model, seeded and untrained, with data to calibrate and judge it."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model, samples = self._made()
        calibration, judging = (Samples(inputs=samples(n, s)) for n, s in ((CALIBRATION, 1), (evaluation, 2)))
        args = tuple(torch.from_numpy(x[0]) for x in calibration.inputs)
        return Task(
            name=self.name,
            source=str(self),
            model=model.eval(),
            args=args,
            calibration=calibration,
            evaluation=judging,
        )

    def _made(self) -> tuple[nn.Module, Callable[[int, int], list[Array]]]:
        if self.name in PAIRS:
            model, inputs = pair(self.name)
            return model, lambda count, seed: [data(takes, count, seed) for takes in inputs]
        both = encoder_decoder().eval()
        if self.name == "encoder":
            return both.encoder, lambda count, seed: [data(WORDS, count, seed)]
        return both.decoder, lambda count, seed: decoding(both, count, seed)


COMPOSITIONS = tuple(Composition(name) for name in (*PAIRS, "encoder", "decoder"))
