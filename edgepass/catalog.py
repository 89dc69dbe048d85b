"""A name is a file: what a folder lists is what is on offer. A file in the folder of a name is a variant: name:file."""

import ast
import pkgutil
import tomllib
from collections.abc import Iterable
from importlib import import_module, resources
from pathlib import Path
from types import ModuleType

from edgepass.errors import InputError, UnknownNameError

# What `edgepass list KIND` can show: kind -> package. Modules are code, TOML files are data.
MODULES = {
    "embeddings": "edgepass.models.embeddings",
    "encodings": "edgepass.models.encodings",
    "mixers": "edgepass.models.mixers",
    "channel_mixers": "edgepass.models.channel_mixers",
    "merges": "edgepass.models.merges",
    "topologies": "edgepass.models.topologies",
    "heads": "edgepass.models.heads",
    "metrics": "edgepass.judging.metrics",
    "examples": "edgepass.examples",
    "rewrites": "edgepass.rewrites",
    "runtimes": "edgepass.runtimes",
    "targets": "edgepass.exporters",
}
DATA = {
    "presets": "edgepass.models.presets",
    "recipes": "edgepass.quantize.recipes",
}


def names(kind: str) -> list[str]:
    """Names on offer of this kind, sorted, without importing any of them."""
    if kind in DATA:
        folder = resources.files(DATA[kind])
        return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))
    found: list[str] = []
    for name, folder in _public(_folders(kind)):
        found += [name, *(f"{name}:{variant}" for variant, _ in _public([folder / name]))]
    return sorted(found)


def load(kind: str, name: str) -> ModuleType:
    """The module called `name` among `kind`; raises UnknownNameError with the nearest match."""
    known = names(kind)
    if name not in known:
        raise UnknownNameError(singular(kind), name, known)
    return import_module(f"{_package(kind)}.{name.replace(':', '.')}")


def read_toml(kind: str, name: str) -> bytes:
    """The TOML text called `name` among `kind`: one on offer, or the path of a file of the user's own."""
    if name.endswith(".toml") and Path(name).is_file():
        try:
            return Path(name).read_bytes()
        except OSError as error:
            raise InputError(f"{name} cannot be read: {error.strerror}") from None
    known = names(kind)
    if name not in known:
        raise UnknownNameError(singular(kind), name, known)
    return resources.files(DATA[kind]).joinpath(f"{name}.toml").read_bytes()


def summary(kind: str, name: str) -> str:
    """What `name` is, in one line: the first of its file's docstring, or of its TOML text. Imports none of them."""
    if kind in DATA:
        text = read_toml(kind, name).decode()
        said = tomllib.loads(text).get("summary") or text.partition("\n")[0].lstrip("# ")
    else:
        place = name.replace(":", "/")
        files = (folder / file for folder in _folders(kind) for file in (f"{place}.py", f"{place}/__init__.py"))
        file = next((file for file in files if file.is_file()), None)
        if file is None:
            raise UnknownNameError(singular(kind), name, names(kind))
        said = (ast.get_docstring(ast.parse(file.read_bytes())) or "").partition("\n")[0]
    return str(said).removesuffix(".")


def singular(kind: str) -> str:
    """One of a kind, for a sentence: channel_mixers -> channel mixer."""
    return (kind.removesuffix("ies") + "y" if kind.endswith("ies") else kind.removesuffix("s")).replace("_", " ")


def _folders(kind: str) -> list[Path]:
    return [Path(folder) for folder in import_module(_package(kind)).__path__]


def _public(folders: Iterable[Path]) -> list[tuple[str, Path]]:
    """Modules and packages of these folders, each with the folder that it is in."""
    return [
        (m.name, folder)
        for folder in folders
        for m in pkgutil.iter_modules([str(folder)])
        if not m.name.startswith("_")
    ]


def _package(kind: str) -> str:
    try:
        return MODULES[kind]
    except KeyError:
        raise UnknownNameError("kind", kind, [*MODULES, *DATA]) from None
