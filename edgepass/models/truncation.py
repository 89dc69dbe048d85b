"""Depth as a knob: a configuration of so many passes, and a trained model cut after one of them.

What a pass of a stack gives is a representation like any other, so norm and head may follow any pass. A model that was
not trained for it forecasts worse when cut; a stack with `anytime` is trained to be cut.
"""

from itertools import cycle, islice

import msgspec
import torch
from torch import nn

from edgepass.errors import InputError
from edgepass.models import parts
from edgepass.models.config import Config
from edgepass.models.forecaster import Forecaster
from edgepass.models.passformer import Passformer

STACK = "stack"


def with_passes(config: Config, passes: int) -> Config:
    """`config` with that many passes in all: those that it lists, over and over.

    Raises InputError below 1, for a topology other than a stack, and for one that lists no pass.
    """
    name = config.topology["name"]
    parts.must(
        name == STACK,
        f"the passes of {config.name!r} are arranged as {name!r}, so their number is in that topology's settings; "
        f"{STACK}, as in preset multi-s, takes any number",
    )
    parts.must(passes >= 1, f"passes is {passes}; it must be at least 1")
    parts.must(len(config.passes) > 0, f"model {config.name!r} lists no pass that could come {passes} times")
    rounds, rest = divmod(passes, len(config.passes))
    return msgspec.structs.replace(
        config,
        passes=tuple(islice(cycle(config.passes), passes)) if rest else config.passes,
        topology={**config.topology, "repeat": 1 if rest else rounds},
    )


def truncated(model: nn.Module, passes: int) -> Forecaster | Passformer:
    """A model of the first `passes` passes, with copies of the weights of `model`, its norm and head after them.

    Raises InputError for a model that is no Passformer, one whose passes are no stack, and more passes than it has.
    """
    if not isinstance(model, (Forecaster, Passformer)):
        raise InputError(f"a {type(model).__name__} is not a Passformer, so there is no pass to cut it after")
    config = with_passes(model.config, passes)
    has = parts.settings("topologies", model.config.topology)[1].repeat * len(model.config.passes)
    parts.must(passes <= has, f"model {config.name!r} cannot be cut after pass {passes}; it has {has}")
    cut: Forecaster | Passformer
    with torch.random.fork_rng(devices=[]):  # whose random weights are all replaced
        if isinstance(model, Forecaster):
            cut = Forecaster(config, lookback=model.lookback, horizon=model.horizon, channels=model.channels)
        else:
            cut = Passformer(config, shape=model.shape, outputs=model.outputs)
    weights = model.state_dict()
    cut.load_state_dict({name: weights[name] for name in cut.state_dict()})
    return cut.train(model.training)
