"""One operation of an ML program, as the handlers see it when the program is loaded."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Run = Callable[..., Any]
"""What a handler gives back: its parameters are named after the operation's inputs, which it is called with."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """Inputs of one operation that are known at load, and the ranks of those that are not.

    `constants` holds tensors, strings, and tuples of them; an optional input that is absent is in neither mapping.
    `half` is true when any input or output is fp16: sums and transcendental functions then work in fp32.
    """

    kind: str
    name: str
    constants: Mapping[str, Any]
    ranks: Mapping[str, int]
    outputs: int
    half: bool

    def known(self, *names: str) -> bool:
        """Whether these inputs are constants or absent."""
        return all(n in self.constants or n not in self.ranks for n in names)

    def get(self, name: str, default: Any = None) -> Any:
        """A constant input as a Python number, string, or list of them; `default` when it is absent."""
        value = self.constants.get(name)
        return default if value is None else plain(value)

    def ints(self, name: str, default: list[int] | None = None) -> list[int]:
        """A constant vector as integers."""
        value = self.get(name)
        return list(default or []) if value is None else [int(v) for v in value]

    def tensor(self, name: str) -> Tensor | None:
        """A constant tensor, in fp32 when it is fp16."""
        value = self.constants.get(name)
        return wide(value) if isinstance(value, Tensor) else None


Build = Callable[[Node], Run]
HANDLERS: dict[str, Build] = {}
"""Operation -> what compiles one of its kind. Filled by the modules that _program.py imports."""


def handles(*kinds: str) -> Callable[[Build], Build]:
    """Register a handler for these operations."""

    def register(build: Build) -> Build:
        HANDLERS.update(dict.fromkeys(kinds, build))
        return build

    return register


def parameters(run: Run) -> list[str]:
    """Names of the inputs that a handler's function takes."""
    return list(inspect.signature(run).parameters)


def wide(x: Tensor) -> Tensor:
    """`x` in fp32 when it is fp16."""
    return x.float() if x.dtype is torch.float16 else x


def plain(value: Any) -> Any:
    """A tensor as a number or a nested list; tuples of tensors likewise; strings as they are."""
    if isinstance(value, Tensor):
        return value.tolist()
    return [plain(v) for v in value] if isinstance(value, tuple | list) else value


def positive(axes: Iterable[int], rank: int) -> list[int]:
    """Axes counted from the front."""
    return [int(a) % rank for a in axes]
