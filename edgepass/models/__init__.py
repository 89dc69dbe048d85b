"""Passformers: what they are made of, and the module itself."""

import re
from typing import TYPE_CHECKING

from edgepass.errors import InputError

if TYPE_CHECKING:
    from edgepass.models.config import Config
    from edgepass.models.forecaster import Forecaster


def create(model: "str | Config", *, lookback: int, horizon: int, channels: int = 1) -> "Forecaster":
    """A new Forecaster, randomly initialised, float32, in evaluation mode.

    `model` is a preset, the path of a .toml file, or a Config. Raises InputError for what cannot be built.
    """
    from edgepass.models import config as configs
    from edgepass.models import parts
    from edgepass.models.forecaster import Forecaster

    for what, value in (("lookback", lookback), ("horizon", horizon), ("channels", channels)):
        if value < 1:
            raise InputError(f"{what} is {value}; it must be at least 1")
    if isinstance(model, str):
        model = configs.read(model)
    configs.check(model)
    with parts.inside(f"model {model.name!r}"):
        try:
            return Forecaster(model, lookback=lookback, horizon=horizon, channels=channels).eval()
        except (MemoryError, OverflowError, RuntimeError) as error:
            too_large = not isinstance(error, RuntimeError) or re.search("alloc|overflow", str(error))
            parts.must(not too_large, "it needs more memory than there is; make its sizes smaller")
            raise
