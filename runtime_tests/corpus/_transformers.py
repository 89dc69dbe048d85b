"""Models of Hugging Face's transformers, small, from a configuration: no weights are fetched."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from edgepass.examples._learning import fit
from runtime_tests.corpus._foreign import Data, Foreign
from runtime_tests.corpus._settle import settled

SMALL = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "initializer_range": 0.1,
}
"""By the names that most configurations have; weights large enough that each layer changes something."""


class Taking(nn.Module):
    """A model of transformers, or a part of it, called by the name of its argument, that gives one of its outputs."""

    def __init__(self, name: str, takes: str, gives: str, part: str = "", **options: Any) -> None:
        super().__init__()
        import transformers

        home, _, kind = name.rpartition(".")
        made = getattr(import_module(f"transformers.models.{home}") if home else transformers, kind)
        config = next(base.config_class for base in made.__mro__ if getattr(base, "config_class", None))
        whole = made(config(**options))
        self.model = getattr(whole, part) if part else whole
        self.takes, self.gives = takes, gives

    def forward(self, x: Tensor) -> Tensor:
        """The output called `gives`, or the only one, of the argument called `takes`, or the first."""
        outputs = self.model(**{self.takes: x}) if self.takes else self.model(x)
        given: Tensor = getattr(outputs, self.gives) if self.gives else outputs
        return given


def from_config(name: str, *, takes: str, gives: str, data: Callable[[int], Tensor], **options: Any) -> Foreign:
    """Not trained; `data` gives that many samples of its argument."""

    def make() -> nn.Module:
        return settled(Taking(name, takes, gives, **options), data(8))

    return Foreign(make=make, data=lambda count, seed: ([data(count)], None))


def trained(name: str, *, takes: str, data: Data, epochs: int, gives: str = "logits", **options: Any) -> Foreign:
    """A classifier, trained to tell the labels of `data`."""

    def train(make: Callable[[], nn.Module]) -> nn.Module:
        return fit(make, *data(2048, 4), epochs=epochs, rate=3e-3)

    return Foreign(make=partial(Taking, name, takes, gives, **options), train=train, data=data)
