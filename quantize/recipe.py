"""A recipe: the number formats that are asked for, and the bounds a file made so must keep; read from TOML."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from edgepass import catalog
from edgepass.errors import InputError, UnknownNameError
from edgepass.judging.gates import Gates

Scheme = Literal["float32", "float16", "weight-only", "dynamic", "static"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is asked for. How a target does it is the target's own affair.

    Names follow the grammar of ai-edge-quantizer: `static_wi8_ai8` is static, weights int8, activations int8.

    `aliases`: what else people call it.
    `rounding`: of linear weights; "gptq" needs the calibration data of a static recipe.
    `keep`: shell globs over module paths whose weights and arithmetic stay float32.
    `bounds`: the gates that hold unless the user sets others.
    """

    name: str = ""
    summary: str
    aliases: tuple[str, ...] = ()
    scheme: Scheme
    weights: Literal["float32", "float16", "int8"]
    rounding: Literal["nearest", "gptq"] = "nearest"
    keep: tuple[str, ...] = ()
    bounds: Gates = field(default_factory=Gates)
    text: str = ""
    """TOML, of a recipe that is the user's own."""

    def keeps(self, module: str) -> bool:
        """Whether the module at this dotted path, or one that holds it, stays float32."""
        parts = module.split(".")
        return any(fnmatchcase(".".join(parts[:n]), glob) for n in range(1, len(parts) + 1) for glob in self.keep)

    def check_calibration(self, *, given: bool) -> None:
        """Raise InputError where this recipe takes ranges from calibration data and there are none."""
        if self.scheme == "static" and not given:
            raise InputError(
                f"{self.name} needs calibration data; give --calibration-data (.npz, .safetensors, .csv or "
                "file.py:function) or get_calibration_data(), or take dynamic_wi8_afp32, which needs none"
            )

    def keeping(self, modules: tuple[str, ...]) -> "Recipe":
        """This recipe, with more modules kept float32."""
        return replace(self, keep=(*self.keep, *modules))


def read(name: str, texts: Mapping[str, str] | None = None) -> Recipe:
    """The recipe called `name`, or the one in the TOML file at that path; `texts` are recipes of the user's own.

    A name is one of `edgepass list recipes`, or one of its aliases in letters of either case, with hyphens or without.

    Raises UnknownNameError with the nearest match, InputError for a TOML file that is not a recipe.
    """
    own = (texts or {}).get(name)
    text = catalog.read_toml("recipes", name := resolved(name)) if own is None else own.encode()
    try:
        table = msgspec.toml.decode(text)
        table["name"] = name.rpartition("/")[2].removesuffix(".toml")
        table["text"] = text.decode() if own is not None or name.endswith(".toml") else ""
        return msgspec.convert(table, Recipe)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{name} is not a recipe: {error}; copy one that `edgepass list recipes` shows") from None


def resolved(name: str) -> str:
    """The recipe that goes by this name, or the path of a TOML file as it is. Raises UnknownNameError."""
    known = catalog.names("recipes")
    if name in known or name.endswith(".toml"):
        return name
    aliases = {alias: recipe for recipe in known for alias in (recipe, *read(recipe).aliases)}
    plain = name.lower().replace("-", "_")
    if plain not in aliases:
        raise UnknownNameError("recipe", name, known, aliases)
    return aliases[plain]
