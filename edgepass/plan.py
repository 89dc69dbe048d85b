"""A plan: what is to be written, of which nothing is until all of it is known to be possible."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import edgepass.exporters as exporters
from edgepass import catalog
from edgepass.errors import InputError, RefusedError, listed
from edgepass.judging.manifest import Varying
from edgepass.quantize import recipe as recipes
from edgepass.quantize.recipe import Recipe

TARGETS = ("executorch", "coreml", "tflite")
RECIPE = "static_wi8_ai8"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be written: every recipe for every target. Checked when made, before any model is loaded.

    `refused`: (target, recipe) -> why, where a target cannot do what others can.
    """

    targets: tuple[str, ...]
    recipes: tuple[Recipe, ...]
    max_batch: int | None = None
    dynamic: tuple[Varying, ...] = ()
    keep_state: bool = False
    refused: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @staticmethod
    def of(
        targets: Sequence[str],
        names: Sequence[str],
        max_batch: int | None = None,
        dynamic: Sequence[Varying] = (),
        *,
        keep_state: bool = False,
    ) -> "Plan":
        """Raises UnknownNameError, InputError, and RefusedError where no target can do any of it."""
        if max_batch is not None and (not isinstance(max_batch, int) or max_batch < 2):
            raise InputError(
                f"max_batch is a whole number from 2 on, not {max_batch!r}; leave it out for a fixed batch"
            )
        chosen = tuple(dict.fromkeys(targets)) or TARGETS
        read = tuple(map(recipes.read, dict.fromkeys(map(recipes.resolved, names)))) or (recipes.read(RECIPE),)
        for name, count in Counter(recipe.name for recipe in read).items():
            if count > 1:
                raise InputError(f"{count} recipes are called {name!r} and would be one file; rename one of them")
        refused: dict[tuple[str, str], str] = {}
        for name, recipe in product(chosen, read):
            try:
                exporters.check(exporters.target(name), name, recipe, max_batch, dynamic)
            except RefusedError as error:
                refused[name, recipe.name] = str(error)
        if len(refused) == len(chosen) * len(read):
            raise RefusedError("; ".join(refused.values()))
        if keep_state:
            _refuse_stateless(chosen, read)
        return Plan(
            targets=chosen,
            recipes=read,
            max_batch=max_batch,
            dynamic=tuple(dynamic),
            keep_state=keep_state,
            refused=refused,
        )


def _refuse_stateless(targets: Sequence[str], chosen: Sequence[Recipe]) -> None:
    """Raise RefusedError where no file of these targets and recipes keeps state, whatever that is."""
    modules = {name: exporters.target(name) for name in catalog.names("targets")}
    schemes = {name: module.keeps_state.schemes - module.refuses.keys() for name, module in modules.items()}
    if any(recipe.scheme in schemes[name] for name, recipe in product(targets, chosen)):
        return
    can = [name for name, kept in schemes.items() if kept.intersection(recipe.scheme for recipe in chosen)]
    others = f"name {listed(can)} with --target" if can else "take another recipe"
    raise RefusedError(
        f"no file of {listed(targets)} keeps state with {listed([recipe.name for recipe in chosen])}; leave out "
        f"--keep-state, or {others}"
    )
