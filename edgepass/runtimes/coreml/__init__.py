"""Core ML: runs a .mlpackage with coremltools on macOS, and with the reference executor elsewhere.

The reference executor computes the saved program with torch, from the bytes on disk (_mil.py says what it can show).
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from edgepass.judging.manifest import Evidence
from edgepass.runtimes import Array, Contents, Cut, Session

extra = "coreml"
suffix = ".mlpackage"

FRAMEWORKS = ("executorch", "lightgbm", "libsvm", "sklearn", "tensorflow", "torchao", "transformers", "xgboost")
"""What coremltools imports, where it is installed, to convert models from: two thirds of its start, and no use here."""


def prepare(path: Path) -> None:
    """Import coremltools, no more of it than reading a program needs, and the reference executor."""
    prepare_reading()
    import_module("edgepass.runtimes.coreml._program")


def prepare_reading() -> None:
    """Import coremltools without what it converts models from."""
    from edgepass.runtimes.coreml._file import quiet

    with quiet(), _without(FRAMEWORKS):
        for module in ("coremltools.libmodelpackage", "coremltools.converters.mil.frontend.milproto"):
            import_module(module)


@contextmanager
def _without(packages: Sequence[str]) -> Iterator[None]:
    """Let imports of these packages fail, those that are not loaded yet."""
    absent: dict[str, Any] = {name: None for name in packages if name not in sys.modules}
    sys.modules.update(absent)
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


def load(path: Path, threads: int, method: str = "") -> Session:
    """Load a function of an ML program, the default one where none is named.

    Raises ArtifactError for a package that is absent, damaged, or not an ML program, and for an operation that the
    reference executor lacks.
    """
    from edgepass.runtimes.coreml._file import open_package

    package = open_package(path, method)
    if sys.platform == "darwin":
        return _Host(package)
    from edgepass.runtimes.coreml._program import Executor

    return _Reference(Executor(package, threads))


def inspect(path: Path, method: str = "") -> Contents:
    """What a function of the package holds, read from its bytes."""
    from edgepass.runtimes.coreml._hash import content_sha256
    from edgepass.runtimes.coreml._inspect import inspect as read

    return replace(read(path, method), content_sha256=content_sha256(path))


class _Reference:
    """The reference executor, with outputs as Core ML gives them: a multi-array has one dimension at least."""

    evidence: Evidence = "reference executor"

    def __init__(self, executor: Session) -> None:
        self.executor = executor

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        return [np.atleast_1d(y) for y in self.executor(inputs)]


def cut(path: Path, threads: int, method: str = "") -> Cut:
    """The program, cut at what its `quantize` operations give, in the reference executor."""
    from edgepass.runtimes.coreml._cut import Cut

    return Cut(path, threads, method)


class _Host:
    """Apple's own runtime. Core ML picks its threads. No test here runs this class: it needs macOS."""

    evidence: Evidence = "host runtime"

    def __init__(self, package: Any) -> None:
        import coremltools

        held, description = package.methods, package.description
        self.model = coremltools.models.MLModel(str(package.path), function_name=package.main if held else None)
        self.inputs, self.outputs = [i.name for i in description.input], [o.name for o in description.output]
        self.state = self.model.make_state() if description.state else None

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        wrapped = [np.atleast_1d(x.astype(np.int32) if x.dtype.kind in "iub" else x) for x in inputs]
        given = self.model.predict(dict(zip(self.inputs, wrapped, strict=True)), state=self.state)
        arrays = [np.asarray(given[name]) for name in self.outputs]
        return [a.astype(np.float32) if a.dtype == np.float16 else a for a in arrays]
