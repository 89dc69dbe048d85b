"""Packages that another one imports and does not need for what it is asked here."""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from unittest import mock


class _Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds modules of some packages, in which every name is a mock."""

    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = packages

    def find_spec(self, fullname: str, *_: Any) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] in self.packages:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _Mocked(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


class _Mocked(ModuleType):
    __version__ = "0.0"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return mock.MagicMock(name=f"{self.__name__}.{name}")


@contextmanager
def absent(*packages: str) -> Iterator[None]:
    """Within, an import of these packages gives mocks, and afterwards it does what it did.

    torchvision is such a one: timm imports it for data sets and training alone, and the one that is made for a torch
    with CUDA does not load beside a torch without.
    """
    finder = _Absent(packages)
    ours = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in packages}
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
            del sys.modules[name]
        sys.modules.update(ours)
