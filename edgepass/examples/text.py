"""Text to label: a question about a text, and its answer, yes or no.

The first token is the question, "is it written forwards?" or "is it code?". The text that follows is of Python's own
documentation or of its library, as it stands or reversed. The first question needs the order of letters, of which their
numbers tell nothing; and every answer needs the question, a token that is far from most of the text. Of questions on
texts that it has not seen the model answers 89%, and 54% where the question is exchanged for the other; a linear
classifier of how often each letter occurs answers 64%, the more frequent answer 54%. Training takes 7 s on one thread.

Shapes: S samples, N tokens.
"""

import argparse
import ast
import configparser
import datetime
import difflib
import inspect
import pathlib
import tarfile
from pydoc_data.topics import topics
from types import ModuleType

import torch
from torch import Tensor, nn

from edgepass.examples._learning import fit, pairs
from edgepass.models.config import Config, PassConfig
from edgepass.models.passformer import Passformer

LETTERS = 48
VOCABULARY = 128
"""ASCII; ids 0 and 1, which no text has, are the two questions."""
LIBRARY: tuple[ModuleType, ...] = (argparse, ast, configparser, datetime, difflib, inspect, pathlib, tarfile)
FEED = {"name": "feed_forward"}
NEAR = PassConfig(mixer={"name": "convolution_affinity", "window": 5}, channel_mixer=FEED)
FAR = PassConfig(mixer={"name": "local_attention", "window": LETTERS + 1}, channel_mixer=FEED)
CONFIG = Config(
    name="text",
    dim=32,
    embedding={"name": "words", "vocabulary": VOCABULARY},
    passes=(FAR, NEAR),
    head={"name": "classify"},
)


def questions(count: int, seed: int) -> tuple[list[Tensor], Tensor]:
    """Ids w_SN, a question and a text each, and the answers: 0 no, 1 yes. Even and odd seeds have no text in common."""
    half = slice(seed % 2, None, 2)
    prose = " ".join(topics[name] for name in sorted(topics)[half])
    code = " ".join(inspect.getsource(module) for module in LIBRARY[half])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        asked_S, backwards_S, code_S = torch.randint(2, (3, count))
        text_SN = torch.where(code_S[:, None] == 1, _cut(code, count), _cut(prose, count))
    text_SN = torch.where(backwards_S[:, None] == 1, text_SN.flip(1), text_SN)
    return [torch.cat([asked_S[:, None], text_SN], dim=1)], torch.where(asked_S == 0, 1 - backwards_S, code_S)


def _cut(text: str, count: int) -> Tensor:
    """Ids of as many pieces from anywhere in a text, [count, LETTERS]."""
    letters = torch.tensor(list(" ".join(text.split()).encode("ascii", "replace")))
    return letters[torch.randint(len(letters) - LETTERS, (count, 1)) + torch.arange(LETTERS)]


def get_model() -> nn.Module:
    """Trained on 8192 questions."""
    return fit(
        lambda: Passformer(CONFIG, shape=(LETTERS + 1,), outputs=2), *questions(8192, seed=0), epochs=4, rate=4e-3
    )


def get_args() -> tuple[Tensor, ...]:
    """One question and its text."""
    return (torch.zeros(1, LETTERS + 1, dtype=torch.int64),)


def get_calibration_data() -> list[tuple[Tensor, ...]]:
    """Questions like those that were trained on."""
    return [arguments for arguments, _ in pairs(*questions(64, seed=2))]


def get_eval_data() -> list[tuple[tuple[Tensor, ...], Tensor]]:
    """Questions about texts that were not trained on, and their answers."""
    return pairs(*questions(512, seed=1))


def get_metric() -> str:
    """Share of questions that are answered."""
    return "accuracy"
