"""Which modules of a model have a row when it is described, what they are called with, and whose the parameters are."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgepass.models.passes import Pass


@dataclass(frozen=True)
class Part:
    """A module that has a row of its own; `leaf` where nothing inside of it has one."""

    name: str
    module: nn.Module
    leaf: bool


def parts(model: nn.Module, name: str, called: Collection[nn.Module]) -> Iterator[Part]:
    """The model, called `name`, and what in it has a row, each once, in the order in which it was made.

    A module is opened when there are passes in it, or when it only holds others, as lists do; in a model without
    passes, the model itself is opened.
    """
    passes = {module for module in model.modules() if isinstance(module, Pass) and module in called}
    seen: set[nn.Module] = set()

    def walk(module: nn.Module, path: str, *, top: bool) -> Iterator[Part]:
        if module in seen:
            return
        seen.add(module)
        children = list(module.named_children())
        inside = module not in passes and not passes.isdisjoint(module.modules())
        opened = bool(children) and (module not in called or (inside if passes else top))
        if module in called:
            yield Part(path or name, module, leaf=not opened)
        if opened:
            for child, inner in children:
                yield from walk(inner, f"{path}.{child}" if path else child, top=top and len(children) == 1)

    return walk(model, "", top=True)


def arguments(
    model: nn.Module, args: tuple[Tensor, ...], kept: Collection[nn.Module]
) -> dict[nn.Module, tuple[Any, ...]]:
    """The modules that are called, each with what it is first called with where that is `kept`."""
    called: dict[nn.Module, tuple[Any, ...]] = {}

    def before(module: nn.Module, given: tuple[Any, ...]) -> None:
        called.setdefault(module, given if module in kept else ())

    hooks = [module.register_forward_pre_hook(before) for module in model.modules()]
    try:
        with torch.no_grad():
            model(*args)
    finally:
        for hook in hooks:
            hook.remove()
    return called


def held(parts: Collection[Part]) -> dict[nn.Module, int]:
    """Parameters of each part that no part before it has; those outside of all leaves are of what holds them."""
    owned: set[int] = set()
    counts: dict[nn.Module, int] = {}
    inner_first = [p for p in reversed(list(parts)) if not p.leaf]
    for part in (*(p for p in parts if p.leaf), *inner_first):
        fresh = {id(p): p.numel() for p in part.module.parameters() if id(p) not in owned}
        owned |= fresh.keys()
        counts[part.module] = sum(fresh.values())
    return counts
