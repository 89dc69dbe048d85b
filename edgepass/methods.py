"""Methods of a model beside forward, each as a model of its own, and what is given for each by its name."""

import copy
from collections.abc import Mapping
from inspect import signature
from typing import Any

from torch import nn

from edgepass.errors import InputError


def method(model: nn.Module, name: str, source: str) -> nn.Module:
    """`model` as it is called by its method `name`, or by a part of it so called; it shares all that the model holds.

    Raises InputError where it has no such method.
    """
    known = offered(model)
    if name not in known:
        raise InputError(
            f"{source} names the method {name!r}, which {type(model).__name__} has not; it has {', '.join(known)}"
        )
    does = getattr(model.eval(), name)
    made: nn.Module = copy.copy(model)

    def forward(*args: Any, **kwargs: Any) -> Any:
        return does(*args, **kwargs)

    forward.__signature__ = signature(does.forward if isinstance(does, nn.Module) else does)  # type: ignore[attr-defined]  # torch.export asks for it
    made.forward = forward  # of this instance alone
    return made


def offered(model: nn.Module) -> list[str]:
    """Names of what can be called of a model beside what every module has: forward, its own methods, its parts."""
    ours = set(dir(nn.Module))
    own = [n for n in dir(type(model)) if n not in ours and not n.startswith("_") and callable(getattr(model, n, None))]
    return ["forward", *own, *(name for name, _ in model.named_children() if name.isidentifier())]


def examples(given: Any, source: str) -> dict[str, Any]:
    """The example arguments of each method, by its name. Raises InputError for what is no such dictionary."""
    if not isinstance(given, Mapping) or not given or not all(isinstance(name, str) for name in given):
        told = "an empty one" if given == {} else type(given).__name__
        raise InputError(
            f"{source} must give a dictionary of example arguments by the name of each method, as "
            f'{{"encode": (torch.zeros(1, 8),)}}; it gives {told}'
        )
    return dict(given)


def by_name(given: Any, names: list[str], source: str) -> dict[str, Any]:
    """What is given of some methods, by their names. Raises InputError for what is of another, or of none."""
    if not isinstance(given, Mapping):
        raise InputError(
            f"{source} gives {type(given).__name__}, and the model has the methods {', '.join(names)}; give a "
            f'dictionary by their names, {{"{names[0]}": …}}'
        )
    if others := [str(name) for name in given if name not in names]:
        raise InputError(f"{source} gives something for {others[0]!r}; the methods are {', '.join(names)}")
    return dict(given)
