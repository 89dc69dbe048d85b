"""How a model is called: arguments of any structure as a row of tensors, and the model as it takes such a row.

    before   forward(x, *, mask=None, gain=2.0), called with {"x": a, "mask": b, "gain": 3.0}
    after    forward(x, mask), called with a, b; the gain is always 3.0

A file takes tensors by their places. What else a call gives, numbers, None, words, is fixed in the file.
"""

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgepass import structure
from edgepass.errors import InputError

FIXED = (type(None), bool, int, float, str, torch.dtype)
"""What a call may give beside tensors."""


@dataclass(frozen=True)
class Call:
    """One call of a model: its arguments by place, and by name."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @staticmethod
    def of(example: Any, source: str) -> "Call":
        """The call that an example is of: a tensor, a tuple of arguments, or a dictionary of them by name.

        Raises InputError for anything else, and for a call without a tensor.
        """
        if isinstance(example, Mapping) and all(isinstance(key, str) for key in example):
            call = Call((), dict(example))
        else:
            call = Call(tuple(example) if isinstance(example, (tuple, list)) else (example,), {})
        given = [leaf for _, leaf in call._leaves]
        strange = [leaf for leaf in given if not isinstance(leaf, (Tensor, *FIXED))]
        if strange or not any(isinstance(leaf, Tensor) for leaf in given):
            kinds = ", ".join(type(leaf).__name__ for leaf in strange or given) or "nothing"
            raise InputError(
                f"{source} must give a tuple of tensors, or a dictionary of arguments by name; it gives {kinds}"
            )
        return call

    @cached_property
    def _leaves(self) -> list[tuple[structure.Path, Any]]:
        """Of lists, tuples and dictionaries, and of what else torch knows how to take apart."""
        found = pytree.tree_leaves_with_path((list(self.args), dict(self.kwargs)))
        return [(tuple(_key(key) for key in path[1:]), leaf) for path, leaf in found]

    @property
    def is_plain(self) -> bool:
        """Whether it is a row of tensors already."""
        return not self.kwargs and all(isinstance(argument, Tensor) for argument in self.args)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Those among its arguments, in order."""
        return tuple(leaf for _, leaf in self._leaves if isinstance(leaf, Tensor))

    def fits(self, sample: Any) -> bool:
        """Whether a sample has the structure of this call."""
        try:
            return [path for path, _ in Call.of(sample, "").ordered(self)._leaves] == [p for p, _ in self._leaves]
        except InputError:
            return False

    def row(self, sample: Any, source: str) -> tuple[Tensor, ...]:
        """The tensors of a sample that is given as this call is. Raises InputError for one that is another call."""
        other = Call.of(sample, source).ordered(self)
        if self.is_plain and other.is_plain:  # how many, and of which shapes, is not asked here
            return other.tensors
        mine, theirs = self._leaves, other._leaves
        if [path for path, _ in mine] != [path for path, _ in theirs]:
            told = [", ".join(map(_text, (path for path, _ in leaves))) for leaves in (theirs, mine)]
            raise InputError(f"{source} gives {told[0]}, but the model was called with {told[1]}; give that")
        for (path, fixed), (_, given) in zip(mine, theirs, strict=True):
            if isinstance(fixed, Tensor) != isinstance(given, Tensor) or (
                not isinstance(fixed, Tensor) and fixed != given
            ):
                raise InputError(
                    f"{source} gives {_kind(given)} for {_text(path)}, but the model was called with {_kind(fixed)}, "
                    "and what is no tensor is fixed in a file; give that, or a tensor in the example too"
                )
        return other.tensors

    def ordered(self, like: "Call") -> "Call":
        """The same call with its names in the order of another's."""
        if self.kwargs.keys() != like.kwargs.keys():
            return self
        return Call(self.args, {name: self.kwargs[name] for name in like.kwargs})

    def positional(self, model: nn.Module) -> nn.Module:
        """`model` as it takes the tensors of such a call in a row; it shares all that the model holds."""
        if self.is_plain:
            return model
        spec = pytree.tree_structure((list(self.args), dict(self.kwargs)))
        made: nn.Module = copy.copy(model)
        own = model.__dict__.get("forward")
        inner = own or MethodType(type(made).forward, made)
        fixed = [leaf for _, leaf in self._leaves]

        def forward(*tensors: Tensor) -> Any:
            rest = iter(tensors)
            filled = [next(rest) if isinstance(leaf, Tensor) else leaf for leaf in fixed]
            args, kwargs = pytree.tree_unflatten(filled, spec)
            return inner(*args, **kwargs)

        parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in self.names(model)]
        forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # torch.export asks for it
        made.forward = forward  # of this instance alone
        return made

    def names(self, model: nn.Module) -> tuple[str, ...]:
        """What each tensor is called: as the parameter of forward that it is of, or is in."""
        try:
            known = list(inspect.signature(model.forward).parameters)
        except (TypeError, ValueError):  # a forward that is no Python function
            known = []
        named = [
            (known[path[0]], *path[1:]) if isinstance(path[0], int) and path[0] < len(known) else path
            for path, leaf in self._leaves
            if isinstance(leaf, Tensor)
        ]
        return structure.names(named, "input")


def _key(entry: Any) -> str | int:
    """Of a path as torch writes it."""
    key = next(getattr(entry, name) for name in ("key", "idx", "name") if hasattr(entry, name))
    return key if isinstance(key, int) else str(key)


def _kind(leaf: Any) -> str:
    return "a tensor" if isinstance(leaf, Tensor) else repr(leaf)


def _text(path: structure.Path) -> str:
    first, *rest = path
    name = f"argument {first}" if isinstance(first, int) else str(first)
    return name + "".join(f"[{key!r}]" for key in rest)
